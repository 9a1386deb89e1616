"""How every command ends: with one line, and without a traceback, for what its user can mend."""

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from cada_jax.common.errors import UsageError

DONE, UNUSABLE, INTERRUPTED, NO_READER = 0, 2, 130, 141

# What the system says of a place that cannot be written to; none of these is a bug of ours.
_NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG}


class Flags(argparse.ArgumentParser):
    """The flags of one command or tool; a mistake in them is one line.

    Args:
      module: what `python -m` runs, as "cada_jax search" or "tools.bench.train".
      description: printed by --help as it stands, usually the module's docstring.
    """

    def __init__(self, module: str, description: str | None):
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # --repeat would be --repeats today and another flag tomorrow
        )

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with code 2."""
        print(f"error: {message}; {self.prog} --help lists the flags", file=sys.stderr)
        raise SystemExit(UNUSABLE)


def run_command(work: Callable[[], int]) -> int:
    """Runs a command and returns its exit code, with everything printed.

    Args:
      work: does it; returns the exit code, or raises.

    Returns:
      What `work` returned, or gave to `sys.exit`. 2 after a `UsageError`, printed on stderr as
      "error: ...", and after a write that the system refused: a full disk, a full stdout. 130 after
      Ctrl-C. 141 when nobody reads stdout any more, as in `... | head -1`; nothing is printed then.
    """
    try:
        try:
            code = work()
        except SystemExit as e:  # argparse printed its help, or what is wrong with a flag
            if isinstance(e.code, str):
                raise
            code = e.code or DONE
        _flush()
        return code
    except UsageError as e:
        print(f"error: {e}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()
        return NO_READER
    except OSError as e:
        if e.errno not in _NOT_WRITABLE:
            raise
        place = e.filename or "the output"
        print(f"error: cannot write {place}: {os.strerror(e.errno)}", file=sys.stderr)
        _drop_stdout()
        return UNUSABLE


def _flush() -> None:
    if sys.stdout is not None:  # None: the shell closed it, as in `... >&-`
        sys.stdout.flush()


def _drop_stdout() -> None:
    """Sends what is left in stdout's buffer nowhere: Python would try again at its exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
