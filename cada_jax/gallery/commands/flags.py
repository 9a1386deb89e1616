"""Flags of a command whose mistakes are one line."""

import argparse
import sys
from typing import NoReturn


class Flags(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, with exit code 2.

    Args:
      command: its name, as in `python -m cada_jax COMMAND`.
      description: printed by --help as it stands.
    """

    def __init__(self, command: str, description: str | None):
        super().__init__(
            prog=f"python -m cada_jax {command}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # --not would be --note today and another flag tomorrow
        )

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with code 2."""
        print(f"error: {message}; {self.prog} --help lists the flags", file=sys.stderr)
        raise SystemExit(2)
