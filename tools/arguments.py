"""What the tools share on the command line."""

import argparse
import math
import pathlib
import re
from collections.abc import Callable, Sequence

from cada_jax.common.command_line import Flags, run_command


class Parser(Flags):
    """The flags of one tool."""

    def flags(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """The flags in `argv`, those of the process if None."""
        return self.parse_args(argv)


def command(work: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """A `main` that runs `work` on its flags, those of the process if None; the exit code."""
    return lambda argv=None: run_command(lambda: work(argv))


def integer(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """A type for whole numbers in [least, most]."""

    def parse(text: str) -> int:
        if not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected {least} to {most}, got {text}")
        return int(text)

    return parse


def mesh(text: str) -> tuple[int, int, int]:
    """A type for DATAxFSDPxTENSOR, at most 4096 devices in all."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text, re.ASCII)
    sizes = (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)
    if not 1 <= math.prod(sizes) <= 4096:  # XLA simulates each of them
        raise argparse.ArgumentTypeError(f"expected DATAxFSDPxTENSOR as 2x4x1, got {text!r}")
    return sizes


def folder(text: str) -> pathlib.Path:
    """A type for a folder to write into, which may be missing; what it holds is not looked at."""
    return pathlib.Path(text).expanduser().absolute()


def folder_to_make(text: str) -> pathlib.Path:
    """A type for the folder that a tool makes: missing or empty, so that nothing is replaced."""
    path = folder(text)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise argparse.ArgumentTypeError(f"{text} is there and is no empty folder: name another")
    return path
