"""Paths for Orbax whose names are taken as they are."""

import os
import pathlib
from collections.abc import Iterator

from etils import epath

from cada_jax.common.errors import UsageError


@epath.register_path_cls
class LocalPath(type(epath.Path("/"))):  # pyrefly: ignore[invalid-inheritance]
    """A local `epath.Path` whose own name is never read as a pattern.

    Orbax lists its folders with `path.glob`, and etils pastes path and pattern together: of
    `runs/lr[1e-3]` it then finds nothing, and of `runs/a*` also the files of `runs/ab`. Orbax
    derives its paths from the one that it is given, so this class reaches all of them.
    """

    def glob(self, pattern: str) -> Iterator["LocalPath"]:
        """Yields what matches `pattern` below this folder."""
        for found in pathlib.Path(str(self)).glob(pattern):
            yield type(self)(str(found))


def check_name(path: str | os.PathLike) -> None:
    """Raises UsageError if TensorStore, which writes the arrays, cannot use `path`.

    It reads a back-slash as a slash, and the arrays would lie elsewhere.
    """
    if "\\" in str(path):
        raise UsageError(
            f"{path}: expected a path without a back-slash, which the library that writes the "
            "arrays reads as a slash. Choose another name."
        )


def absolute(path: str | os.PathLike, name: str) -> pathlib.Path:
    """The absolute path that a user gave, with "~" expanded; nothing needs to lie there.

    Args:
      path: as it was given.
      name: how messages call it, as "--workdir=runs/demo".

    Raises:
      UsageError: no folder can have that path.
    """
    try:
        found = pathlib.Path(path).expanduser().absolute()
        (found / "x").exists()  # raises where a name is too long
    except (OSError, RuntimeError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else e
        raise UsageError(f"{name}: expected a path, but: {reason}. Choose another.") from e
    check_name(found)
    return found
