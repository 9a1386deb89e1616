"""The audit log: who asked what, when, and which pictures were shown. One JSON object a line.

An answer leaves the server after its line is in the file. When the line cannot be written, there
is no answer: a log that silently stops would be none.
"""

import datetime
import errno
import json
import os
import stat
import threading
from collections.abc import Mapping
from typing import Any

from cada_jax.common.errors import UsageError
from cada_jax.common.files import local_path

START = b'{"time": "'  # of every line


class AuditError(OSError):
    """A line could not be written; `str` says why."""


class AuditLog:
    """A file that lines are appended to, by several threads and processes.

    Every line is one write to a file that is opened anew, so that a file that was moved away, as
    logrotate does, is followed by a new one. The file is made readable for its owner alone. It is
    not locked: whoever reads it keeps nobody from writing.

    Args:
      path: of the file; its folder exists.

    Raises:
      UsageError: it cannot be written, or is no audit log.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = local_path(path)
        self.failed = ""
        self._lock = threading.Lock()
        try:
            handle = self._opened(os.O_RDWR)
            begins = os.pread(handle, len(START), 0)
            os.close(handle)
        except OSError as error:
            raise UsageError(
                f"--audit_log={self.path} cannot be written: {error.strerror or error}. Choose a "
                "file in a folder that exists and that you may write to."
            ) from None
        if begins and begins != START:
            raise UsageError(f"--audit_log={self.path} is another file: choose a new one")

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
        line = (json.dumps(entry, ensure_ascii=True, default=str) + "\n").encode("ascii")
        try:
            with self._lock:
                self._append(line)
            self.failed = ""
        except OSError as error:
            self.failed = error.strerror or str(error)
            raise AuditError(self.failed) from error

    def _opened(self, mode: int) -> int:
        # Without O_NONBLOCK, opening a pipe would wait for somebody to read it.
        flags = mode | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
        handle = os.open(self.path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError("it is no ordinary file")
        return handle

    def _append(self, line: bytes) -> None:
        handle = self._opened(os.O_WRONLY)
        try:
            written = os.write(handle, line)
            if written < len(line):
                end = os.lseek(handle, 0, os.SEEK_CUR)
                if os.fstat(handle).st_size == end:  # no other process has written since
                    os.ftruncate(handle, end - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)
