"""One process at a time in a folder, by a lock that the operating system gives back.

The lock is on a file that tells who holds it. A process that ends, however it ends, no longer
holds it. On file systems without locks everybody gets it.
"""

import dataclasses
import json
import os
import pathlib
import socket
import time
from typing import IO

from cada_jax.common.errors import UsageError


@dataclasses.dataclass
class _Held:
    file: IO[str]
    times: int  # how often this process took it and has not given it back


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


def acquire(path: str | os.PathLike, wait: bool = False, remedy: str = WAIT_OR_CHOOSE) -> None:
    """Locks the file `path`, which is made if missing. The same process may do so again.

    Args:
      path: of the lock file; its folder exists.
      wait: until another process gives it back, and say so, instead of raising.
      remedy: what the message says of the next step.

    Raises:
      UsageError: another process holds it.
      OSError: the file cannot be written.
    """
    path = pathlib.Path(path).absolute()
    if path in _HELD:
        _HELD[path].times += 1
        return
    file = open(path, "a+", encoding="utf-8")
    try:
        if not _lock(file, wait=False):
            holder = _holder(file)
            if not wait:
                raise UsageError(f"{path.parent} is in use by {holder}. {remedy}")
            print(f"Waiting for {holder}, which uses {path.parent} ...", flush=True)
            _lock(file, wait=True)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        own = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
        file.truncate(0)
        file.write(json.dumps(own) + "\n")
        file.flush()
    except BaseException:
        file.close()
        raise
    _HELD[path] = _Held(file, 1)


def release(path: str | os.PathLike) -> None:
    """Gives the lock back, after as many calls as of `acquire`; nothing if it is not held."""
    path = pathlib.Path(path).absolute()
    held = _HELD.get(path)
    if held is None:
        return
    held.times -= 1
    if held.times == 0:
        del _HELD[path]
        held.file.close()
