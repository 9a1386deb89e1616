"""Where libraries' tracebacks and log lines go, so that the console keeps to the reason.

`quiet_libraries` sends them to a file while it is open; `record` adds the traceback behind a
message of ours, which then names the file.
"""

import contextlib
import logging
import os
import pathlib
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from absl import logging as absl_logging

LOG_FILE = "log.txt"


def record(folder: str | os.PathLike | None, error: BaseException) -> pathlib.Path | None:
    """Adds the traceback of `error` to FOLDER/log.txt.

    What the library's threads and tasks still have to say of it, up to the end of the process, goes
    there too: Python prints that when it clears up.

    Returns:
      The file: one of the system's temporary folder where there is no FOLDER or it cannot be
      written, None where that cannot be written either.
    """
    place = pathlib.Path(folder) if folder else None
    sys.unraisablehook = _into_file(place)
    tasks = logging.getLogger("asyncio")
    tasks.handlers.clear()
    tasks.addHandler(_ToFile(place))
    tasks.propagate = False
    return _append(place, "".join(traceback.format_exception(error)))


def _into_file(folder: pathlib.Path | None) -> Callable[[Any], None]:
    def hook(args: Any) -> None:
        if args.exc_value is not None:
            _append(folder, "".join(traceback.format_exception(args.exc_value)))

    return hook


def _append(folder: pathlib.Path | None, text: str) -> pathlib.Path | None:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    spare = pathlib.Path(tempfile.gettempdir()) / f"cada_jax.{os.getpid()}.{LOG_FILE}"
    for path in ([folder / LOG_FILE] if folder else []) + [spare]:
        with contextlib.suppress(OSError):
            with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{stamp} {text.rstrip()}\n")
            return path
    return None


class _ToFile(logging.Handler):
    """Appends records to the log file of a folder, which appears with the first of them."""

    def __init__(self, folder: pathlib.Path | None):
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self._folder = folder

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            _append(self._folder, self.format(record))


class _Diversion:
    """The one diversion of a process: the first to open it names the folder, the last closes it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._open = 0
        self._console: list[logging.Handler] = []
        self._handler: logging.Handler | None = None
        self._hook: Callable[[Any], object] = threading.excepthook

    def open(self, folder: pathlib.Path | None) -> None:
        with self._lock:
            self._open += 1
            # With --verbosity=0 or more the console is where the user asked for them.
            if self._open == 1 and absl_logging.get_verbosity() < absl_logging.INFO:
                self._start(folder)

    def close(self) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0 and self._handler:
                self._stop(self._handler)

    def _start(self, folder: pathlib.Path | None) -> None:
        root, self._handler = logging.getLogger(), _ToFile(folder)
        self._console = [handler for handler in root.handlers if _speaks(handler)]
        for handler in self._console:
            root.removeHandler(handler)
        root.addHandler(self._handler)
        self._hook, threading.excepthook = threading.excepthook, _into_file(folder)

    def _stop(self, handler: logging.Handler) -> None:
        root = logging.getLogger()
        threading.excepthook = self._hook
        root.removeHandler(handler)
        for spoken in self._console:
            root.addHandler(spoken)
        self._handler = None


_DIVERSION = _Diversion()


@contextlib.contextmanager
def quiet_libraries(folder: str | os.PathLike | None) -> Iterator[None]:
    """While it is open, warnings and errors that are logged go to FOLDER/log.txt alone.

    So do the tracebacks of threads that die. With `--verbosity=0` or more the console keeps them.
    Blocks may overlap: the first names the folder; None is for the temporary folder.
    """
    _DIVERSION.open(pathlib.Path(folder) if folder else None)
    try:
        yield
    finally:
        _DIVERSION.close()


def _speaks(handler: logging.Handler) -> bool:
    """Whether a handler of the root logger prints on the console."""
    if isinstance(handler, absl_logging.ABSLHandler):
        return True
    return type(handler) is logging.StreamHandler
