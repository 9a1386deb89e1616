"""Where results are written: checked before the work, and never over somebody else's file."""

import os
import pathlib
from collections.abc import Sequence

from cada_jax.common.errors import UsageError

MARK = b"cada_jax"  # in the first and last bytes of every file that is written here
_LOOKED_AT = 2**16


def check_out(flag: str, text: str, endings: Sequence[str]) -> pathlib.Path:
    """The path of a file to write.

    Args:
      flag: named in the message.
      text: the path as given.
      endings: of which the name must have one, as ".png".

    Raises:
      UsageError: another ending, no such folder, a folder that cannot be written to, or something
        there that was not written by this program.
    """
    expected = " or ".join(endings)
    try:
        path = pathlib.Path(text).expanduser()
        if path.suffix.lower() not in endings:
            raise UsageError(f"{flag}={text!r}: expected a name that ends in {expected}")
        if not path.parent.is_dir():
            raise UsageError(f"{flag}={text!r}: there is no folder {str(path.parent)!r}")
        if os.path.lexists(path) and not _is_ours(path):
            raise UsageError(
                f"{flag}={text!r} exists and was not written by this program: choose another name"
            )
        if not os.access(path.parent, os.W_OK):
            raise UsageError(f"{flag}={text!r}: the folder cannot be written to")
    except (OSError, ValueError, RuntimeError) as e:
        if isinstance(e, UsageError):
            raise
        raise UsageError(f"{flag}={text!r} cannot be used as a path: {e}") from e
    return path


def _is_ours(path: pathlib.Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        begin = file.read(_LOOKED_AT)
        file.seek(max(0, path.stat().st_size - _LOOKED_AT))
        return MARK in begin or MARK in file.read()
