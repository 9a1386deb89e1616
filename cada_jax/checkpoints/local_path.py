"""Paths for Orbax whose names are taken as they are."""

import pathlib
from collections.abc import Iterator

from etils import epath


@epath.register_path_cls
class LocalPath(type(epath.Path("/"))):
    """A local `epath.Path` whose own name is never read as a pattern.

    Orbax lists its folders with `path.glob`, and etils pastes path and pattern together: of
    `runs/lr[1e-3]` it then finds nothing, and of `runs/a*` also the files of `runs/ab`. Orbax
    derives its paths from the one that it is given, so this class reaches all of them.
    """

    def glob(self, pattern: str) -> Iterator["LocalPath"]:
        """Yields what matches `pattern` below this folder."""
        for found in pathlib.Path(str(self)).glob(pattern):
            yield self._new(str(found))
