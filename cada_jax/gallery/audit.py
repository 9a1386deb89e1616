"""The audit log: who asked what, when, and which pictures were shown. One JSON object a line.

An answer leaves the server after its line is in the file. When the line cannot be written, there
is no answer: a log that silently stops would be none.
"""

import contextlib
import datetime
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from cada_jax.common.errors import UsageError


class AuditError(OSError):
    """A line could not be written; `str` says why."""


class AuditLog:
    """A file that lines are appended to, by several threads and processes.

    Every line is one write to a file that is opened anew, so that a file that was moved away, as
    logrotate does, is followed by a new one. The file is made readable for its owner alone.

    Args:
      path: of the file; its folder exists.

    Raises:
      UsageError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path).expanduser().absolute()
        try:
            self._append(b"")
        except OSError as error:
            raise UsageError(
                f"--audit_log={self.path} cannot be written: {error.strerror or error}. Choose a "
                "file in a folder that exists and that you may write to."
            ) from None
        self.failed = ""

    def write(self, event: str, who: Mapping[str, Any], **what: Any) -> None:
        """Appends one line: time, event, who, and the rest in order.

        Args:
          event: "search", "image", ...
          who: client and token name.
          **what: JSON values.

        Raises:
          AuditError: the file system took no line, or half of one, which is removed again.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        entry = {"time": now, "event": event, **who, **what}
        # ASCII: a line break or half a character in a query cannot break a line.
        line = json.dumps(entry, ensure_ascii=True, default=str) + "\n"
        try:
            self._append(line.encode("ascii"))
            self.failed = ""
        except OSError as error:
            self.failed = error.strerror or str(error)
            raise AuditError(self.failed) from error

    def _append(self, line: bytes) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            with _locked(handle):
                self._append_whole(handle, line)
        finally:
            os.close(handle)

    def _append_whole(self, handle: int, line: bytes) -> None:
        if not line:
            return
        size = os.fstat(handle).st_size
        written = 0
        try:
            while written < len(line):
                written += os.write(handle, line[written:])
        except OSError:
            if written:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle, size)
            raise


@contextlib.contextmanager
def _locked(handle: int):
    """Keeps other writers out, so that a half line that is removed is nobody else's."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_EX)
    yield
