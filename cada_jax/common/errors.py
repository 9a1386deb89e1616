"""What the program says to its user, and the border to libraries that read foreign formats.

Three places turn other exceptions into these: `reading` here, `common.command_line.run_command`
and the server's handler. Code between them trusts its types and catches nothing. The first three
also are built-in exceptions, so that a library user may catch `ValueError` or `FileNotFoundError`
without knowing this module.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any


class UsageError(ValueError):
    """A file, a config key or a flag is not what it has to be.

    The message names the thing, what was expected, what came, and what to do next.
    """

    exit_code = 2  # of a command


class MissingFileError(UsageError, FileNotFoundError):
    """A file or folder that the run needs is not there."""

    def __str__(self) -> str:
        # OSError formats two arguments as "[Errno ...]"; the message is the first one here.
        return str(self.args[0]) if self.args else ""


def reason(error: BaseException) -> str:
    """The kind of an exception and the first line of its message, 300 characters at most."""
    text = (getattr(error, "strerror", None) or str(error)).strip()
    first = text.splitlines()[0][:300].rstrip(".") if text else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def shown(value: Any, most: int = 80) -> str:
    """A value that came from outside on one line, for a message; cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an int of thousands of digits cannot be written
        text = f"a value of type {type(value).__name__}"
    if len(text) <= most:
        return text
    return f"{text[: most - 20]}... ({len(text)} characters)"


@contextlib.contextmanager
def reading(path: str | os.PathLike, what: str) -> Iterator[None]:
    """Turns whatever a library raises of a damaged or foreign file into one error of ours.

    Args:
      path: of the file or folder that is read within the `with` block.
      what: it should be, for the message: "a checkpoint of PyTorch".

    Raises:
      MissingFileError: `path` is not there.
      UsageError: anything else that the block raised; errors of ours pass as they are.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as e:
        if isinstance(e, FileNotFoundError | NotADirectoryError):
            missing = e.filename or path
            raise MissingFileError(f"{missing}: expected {what}; there is no such file") from e
        raise UsageError(f"{path}: expected {what}; it cannot be read ({reason(e)})") from e


@contextlib.contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Around imports of what `pip install 'cada_jax[EXTRA]'` brings: one line where it is not.

    Raises:
      MissingFileError: a module within the block is not installed.
    """
    try:
        yield
    except ImportError as e:
        raise MissingFileError(
            f"{e.name or e} is not installed: pip install 'cada_jax[{extra}]', or "
            f"pip install -e '.[{extra}]' in a clone"
        ) from e


class NoRoomError(UsageError):
    """A checkpoint could not be written for want of room; what was saved before is kept."""


class DivergedError(ArithmeticError):
    """The loss or its gradient is no longer a finite number."""

    exit_code = 1


class LostProcessError(RuntimeError):
    """Another process of the same run is gone."""

    exit_code = 1


class StoppedError(Exception):
    """A signal asked the run to end, and its state is saved.

    Attributes:
      signum: the signal.
      exit_code: of a command.
    """

    def __init__(self, signum: int, step: int):
        super().__init__(
            f"Stopped by {signal.Signals(signum).name} after step {step}, which is saved. "
            "The same command continues."
        )
        self.signum = signum
        self.exit_code = 128 + signum


EXPECTED_ERRORS = (UsageError, DivergedError, LostProcessError, StoppedError)
