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
            yield self._new(str(found))


def check_name(path: str | os.PathLike) -> None:
    """Raises UsageError if TensorStore, which writes the arrays, cannot use `path`.

    It reads a back-slash as a slash, and the arrays would lie elsewhere.
    """
    if "\\" in str(path):
        raise UsageError(
            f"{path}: expected a path without a back-slash, which the library that writes the "
            "arrays reads as a slash. Choose another name."
        )
