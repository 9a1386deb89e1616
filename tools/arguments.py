"""What the tools share on the command line: flags with ranges, paths checked before the work.

Whatever is wrong with an argument is one line on stderr and exit code 2, before anything is
written.
"""

import argparse
import math
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Sequence

from cada_jax.common.command_line import Flags

MOST_DEVICES = 4096  # of a simulated mesh: XLA makes each of them


class Parser(Flags):
    """The flags of one tool."""

    def flags(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """The flags in `argv`, those of the process if None."""
        return self.parse_args(argv)


def integer(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """A type for whole numbers in [least, most]."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {least} to {most}, got {text!r}"
            )
        return value

    return parse


def positive_real(text: str) -> float:
    """A type for finite numbers above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def image_size(text: str) -> tuple[int, int]:
    """A type for HEIGHTxWIDTH, each from 1 to 4096 pixels."""
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text, re.ASCII)
    height, width = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1 <= height <= 4096 and 1 <= width <= 4096):
        raise argparse.ArgumentTypeError(
            f"expected HEIGHTxWIDTH in pixels, from 1x1 to 4096x4096, got {text!r}"
        )
    return height, width


def mesh(text: str) -> tuple[int, int, int]:
    """A type for DATAxFSDPxTENSOR, at most 4096 devices in all."""
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})x([1-9]\d{0,3})", text, re.ASCII)
    sizes = (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)
    if not 1 <= math.prod(sizes) <= MOST_DEVICES:
        raise argparse.ArgumentTypeError(
            f"expected DATAxFSDPxTENSOR as 2x4x1, at most {MOST_DEVICES} devices, got {text!r}"
        )
    return sizes


def _path(text: str) -> pathlib.Path:
    """An absolute path; raises where the system cannot have such a one."""
    path = pathlib.Path(text)
    try:
        path = pathlib.Path(os.path.abspath(path.expanduser()))
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, RuntimeError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else e
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used as a path: {reason}") from e
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return path


def _check_place(path: pathlib.Path, text: str) -> None:
    """Raises unless `path`, or the nearest folder above it that exists, can be written to."""
    above = path
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        raise argparse.ArgumentTypeError(f"cannot make {text!r}: {above} is no folder")
    try:
        with tempfile.TemporaryFile(dir=above):  # what permissions say is not all
            pass
    except OSError as e:
        reason = e.strerror or e
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: {above}: {reason}") from e


def folder(text: str) -> pathlib.Path:
    """A type for a folder to write into, which may be missing; what it holds is not looked at."""
    path = _path(text)
    _check_place(path, text)
    return path


def folder_to_make(text: str) -> pathlib.Path:
    """A type for the folder that a tool makes: missing or empty, in a place it can write to."""
    path = _path(text)
    if path.is_dir() and any(_listed(path)):
        names = sorted(_listed(path))
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an empty folder, it holds {names[0]!r}"
            f"{f' and {len(names) - 1} more' if len(names) > 1 else ''}: choose another or empty it"
        )
    _check_place(path, text)
    return path


def writable_folder(text: str) -> pathlib.Path:
    """A type for a folder that exists and can be written to."""
    path = _path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}: make it first")
    _check_place(path, text)
    return path


def drawing(mark: str) -> Callable[[str], pathlib.Path]:
    """A type for an SVG file to write.

    Args:
      mark: what the first 4096 bytes of the tool's own files hold; no other file is replaced.
    """

    def parse(text: str) -> pathlib.Path:
        path = _path(text)
        if not text.endswith(".svg"):
            raise argparse.ArgumentTypeError(f"expected a name that ends in .svg, got {text!r}")
        if os.path.lexists(path):
            try:
                with open(path, "rb") as file:
                    ours = mark.encode() in file.read(4096)
            except OSError:
                ours = False
            if not ours:
                raise argparse.ArgumentTypeError(
                    f"{text!r} exists and was not drawn by this tool: choose another name"
                )
        elif not path.parent.is_dir():
            raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
        _check_place(path.parent, text)
        return path

    return parse


def _listed(folder: pathlib.Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as e:
        raise argparse.ArgumentTypeError(f"cannot read {str(folder)!r}: {e.strerror}") from e
