"""How every command ends: with one line, and without a traceback, for what its user can mend."""

import argparse
import contextlib
import difflib
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from cada_jax.common.errors import EXPECTED_ERRORS, reason

DONE, UNUSABLE, INTERRUPTED, NO_READER = 0, 2, 130, 141


class Flags(argparse.ArgumentParser):
    """The flags of one command or tool; a mistake in them is one line.

    Args:
      module: what `python -m` runs, as "cada_jax search" or "tools.bench.versions".
      description: printed by --help as it stands, usually the module's docstring.
    """

    def __init__(self, module: str, description: str | None):
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # --repeat would be --repeats today and another flag tomorrow
        )

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, but "-2" is a value although "-0" may be a flag."""
        self._has_negative_number_optionals.clear()
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None) -> Any:
        """The flags in `args`; of a misspelt one the message names what was probably meant."""
        flags, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(name, self._option_string_actions, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            self.error(f"unknown argument {unknown[0]!r}{hint}")
        return flags

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with code 2."""
        print(f"error: {message}; {self.prog} --help lists the flags", file=sys.stderr)
        raise SystemExit(UNUSABLE)


def run_command(work: Callable[[], int], folder: str | os.PathLike | None = None) -> int:
    """Runs a command and returns its exit code, with everything printed.

    Args:
      folder: where the traceback of an exception that is not ours goes, see `unforeseen`.

    Returns:
      What `work` returned, or gave to `sys.exit`. The exit code of an error of ours, 2 for most,
      printed on stderr as "error: ...". 2 after an exception that is not ours: the line has its
      kind, the file at hand and where its traceback lies. 130 after Ctrl-C. 141 when nobody reads
      stdout any more, as in `... | head -1`; nothing is printed then.
    """
    try:
        try:
            code = work()
        except SystemExit as e:  # argparse printed its help
            if isinstance(e.code, str):
                raise
            code = e.code or DONE
        _flush()
        return code
    except EXPECTED_ERRORS as e:
        print(f"error: {e}" if e.exit_code == UNUSABLE else e, file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()
        return NO_READER
    except Exception as e:
        print(f"error: {unforeseen(e, folder)}", file=sys.stderr)
        _drop_stdout()
        return UNUSABLE


def unforeseen(error: Exception, folder: str | os.PathLike | None = None) -> str:
    """One line on an exception that is not ours; its traceback goes to FOLDER/log.txt."""
    from cada_jax.common.log_file import record

    file = getattr(error, "filename", None)
    log = record(folder, error)
    return (f"{file}: " if file else "") + reason(error) + (f" (details: {log})" if log else "")


def _flush() -> None:
    if sys.stdout is not None:  # None: the shell closed it, as in `... >&-`
        sys.stdout.flush()


def _drop_stdout() -> None:
    """Sends what is left in stdout's buffer nowhere: Python would try again at its exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
