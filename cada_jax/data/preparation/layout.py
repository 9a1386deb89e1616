"""What the published folder of a data set looks like, and how to find its annotation file."""

import dataclasses
import os
from pathlib import Path

from cada_jax.common.errors import MissingFileError, UsageError

LISTED = 10  # examples of one kind in a message
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the folder of one data set looks like.

    Attributes:
      title: name as published.
      folder: name of the folder as published; the source may be it or its parent.
      annotations: accepted names of the annotation file, the published one first.
      image_key: key of the annotation that holds the image's path.
      splits: ids, images and captions as published, for each split there is.
      unusable: other lists that the authors give out, and why each cannot serve.
    """

    title: str
    folder: str
    annotations: tuple[str, ...]
    image_key: str
    splits: dict[str, tuple[int, int, int]]
    unusable: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def expected(self) -> str:
        """What to put where, in words."""
        return (
            f"{self.annotations[0]} (a JSON list of entries with id, {self.image_key}, captions, "
            "split) and the images under imgs/"
        )

    @property
    def keys(self) -> set[str]:
        """The keys that every entry needs."""
        return {"id", self.image_key, "captions", "split"}


def expand(path: str | os.PathLike, flag: str) -> Path:
    """Returns a path with ~ replaced by the home folder.

    Raises:
      UsageError: no such user, or no path at all; names the flag.
    """
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError) as err:
        raise UsageError(f"{flag} is {os.fspath(path)!r}: {err}. Write the path in full") from err


def list_archives(folder: Path) -> str:
    """Returns the names of some archives in a folder, "" if there are none."""
    names = [name for name in _names(folder) if name.lower().endswith(ARCHIVES)]
    return ", ".join(names[:LISTED])


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def find_annotation(layout: Layout, folder: str | os.PathLike) -> Path:
    """Returns the annotation file in a source folder, or in the published folder below it.

    Raises:
      MissingFileError: there is none; says what was expected, what is there, and of archives to
        unpack.
    """
    folder = expand(folder, "--source")
    # os.path answers False where a path is too long or may not be looked at; Path would raise.
    if os.path.isfile(folder):
        raise MissingFileError(
            f"{folder} is a file: unpack it if it is an archive, and give the folder that holds "
            f"{layout.expected}"
        )
    roots = (folder, folder / layout.folder)
    for root in roots:
        for name in layout.annotations:
            if os.path.isfile(root / name):
                return root / name
    if not os.path.isdir(folder):
        raise MissingFileError(
            f"{folder} does not exist or may not be read: expected {layout.expected}"
        )
    for root in roots:
        for name, reason in layout.unusable.items():
            if os.path.isfile(root / name):
                raise MissingFileError(
                    f"{root} lacks {layout.annotations[0]}: expected {layout.expected}. {name}, "
                    f"which is there, cannot serve: {reason}"
                )
    archives = list_archives(folder)
    others = ", ".join([n for n in _names(folder) if n.lower().endswith(".json")][:LISTED])
    hint = f". Unpack {archives} there first" if archives else ""
    if others:
        hint += f". It holds {others}: is --dataset right, and is this the file of that name?"
    raise MissingFileError(f"{folder} holds no {layout.title}: expected {layout.expected}{hint}")
