"""One process at a time in a folder, by a lock that the operating system gives back.

The lock is on a file that tells who holds it. A process that ends, however it ends, no longer
holds it. On file systems without locks everybody gets it.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import IO

from cada_jax.common.errors import UsageError


@dataclasses.dataclass
class _Held:
    file: IO[str]
    times: int = 0  # how often this process entered it and has not left


_HELD: dict[pathlib.Path, _Held] = {}


def _holder(file: IO[str]) -> str:
    """The process that a lock file names, for a message."""
    file.seek(0)
    try:
        holder = json.load(file)
        return f"process {holder['pid']} on {holder['host']}, started {holder['started']}"
    except (ValueError, KeyError, TypeError):  # it is just being written
        return "another process"


def _lock(file: IO[str], wait: bool) -> bool:
    """Locks an open file until it is closed; False if another process has it."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


WAIT_OR_CHOOSE = "Wait until it ends, or choose another --workdir."


def _opened(path: pathlib.Path, wait: bool, remedy: str, what: str) -> IO[str]:
    """The lock file, locked, with this process named in it."""
    file = open(path, "a+", encoding="utf-8")
    try:
        if not _lock(file, wait=False):
            holder = _holder(file)
            if not wait:
                raise UsageError(f"{what} is in use by {holder}. {remedy}")
            print(f"Waiting for {holder}, which uses {what} ...", flush=True)
            _lock(file, wait=True)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        own = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
        file.truncate(0)
        file.write(json.dumps(own) + "\n")
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


@contextlib.contextmanager
def locked(
    path: str | os.PathLike, wait: bool = False, remedy: str = WAIT_OR_CHOOSE, what: str = ""
) -> Iterator[None]:
    """Holds the file `path`, which is made if missing. The same process may enter again.

    Args:
      path: of the lock file; its folder exists.
      wait: until another process gives it back, and say so, instead of raising.
      remedy: what the message says of the next step.
      what: is held, for the message; the folder if not given.

    Raises:
      UsageError: another process holds it.
      OSError: the file cannot be written.
    """
    path = pathlib.Path(path).absolute()
    if path not in _HELD:
        _HELD[path] = _Held(_opened(path, wait, remedy, what or str(path.parent)))
    held = _HELD[path]
    held.times += 1
    try:
        yield
    finally:
        held.times -= 1
        if not held.times:
            del _HELD[path]
            held.file.close()
