"""Finds the picture files below folders."""

import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cada_jax.common.errors import MissingFileError, UsageError

# Of the formats that `common.images` reads.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".dib"),
    *(".webp", ".tif", ".tiff", ".gif"),
)


class File(NamedTuple):
    """A picture file. path: absolute; size: bytes; modified_ns: nanoseconds since 1970."""

    path: str
    size: int
    modified_ns: int


class Problem(NamedTuple):
    """A path that cannot be indexed, and why."""

    path: str
    reason: str


def check_roots(roots: Sequence[str | os.PathLike]) -> list[str]:
    """The roots as absolute paths.

    Raises:
      MissingFileError: one is not there.
      UsageError: there is none.
    """
    if not roots:
        raise UsageError("no folder was given: expected at least one folder or picture file")
    paths = [os.path.abspath(os.path.expanduser(os.fspath(root))) for root in roots]
    for root, path in zip(roots, paths, strict=True):
        if not os.path.exists(path):
            raise MissingFileError(
                f"{os.fspath(root)}: expected a folder of pictures, but there is none. If it is on "
                "a drive that is not mounted, mount it; nothing was removed from the gallery"
            )
    return paths


def find_files(roots: Sequence[str | os.PathLike]) -> tuple[list[File], list[Problem]]:
    """Looks through folders and everything below them, symbolic links too.

    A folder or file that is met twice, by a link or by overlapping roots, counts once, by the
    path that comes first: roots in their order, entries by name, real ones before links. Names
    that begin with a dot are left out. Pictures are known by their suffix.

    Args:
      roots: folders, or single files of any suffix.

    Returns:
      (files, what cannot be looked at), sorted by path.

    Raises:
      UsageError: as of `check_roots`.
    """
    walk = _Walk()
    files = [file for path in check_roots(roots) for file in walk.root(path)]
    return sorted(files), sorted(walk.problems)


class _Walk:
    def __init__(self):
        self.problems: list[Problem] = []
        self._seen: set[tuple[int, int]] = set()

    def root(self, path: str) -> Iterator[File]:
        if os.path.isdir(path):
            yield from self._folder(path)
        else:
            yield from self._file(path)

    def _first_time(self, found: os.stat_result) -> bool:
        key = found.st_dev, found.st_ino
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _problem(self, path: str, reason: str) -> None:
        self.problems.append(Problem(_shown(path), reason))

    def _folder(self, top: str) -> Iterator[File]:
        waiting = [top]  # no recursion: a tree may be deeper than Python's stack
        while waiting:
            folder = waiting.pop()
            try:
                if not self._first_time(os.stat(folder)):
                    continue
                with os.scandir(folder) as entries:
                    found = sorted(entries, key=lambda e: (e.is_symlink(), e.name))
            except OSError as err:
                self._problem(folder, f"the folder cannot be read ({err.strerror})")
                continue
            inner = []
            for entry in found:
                if entry.name.startswith("."):
                    continue
                try:
                    is_folder = entry.is_dir()
                except OSError as err:
                    self._problem(entry.path, f"cannot be read ({err.strerror})")
                    continue
                if is_folder:
                    inner.append(entry.path)
                elif entry.name.lower().endswith(SUFFIXES):
                    yield from self._file(entry.path)
            waiting += reversed(inner)

    def _file(self, path: str) -> Iterator[File]:
        try:
            path.encode()
        except UnicodeEncodeError:
            self._problem(path, "its name is not UTF-8: rename it")
            return
        try:
            found = os.stat(path)
        except FileNotFoundError:
            self._problem(path, "is a link to a file that is not there")
            return
        except OSError as err:
            self._problem(path, f"cannot be read ({err.strerror})")
            return
        if not stat.S_ISREG(found.st_mode):
            self._problem(path, "is no ordinary file")
        elif self._first_time(found):
            yield File(path, found.st_size, found.st_mtime_ns)


def _shown(path: str) -> str:
    """A path that can be written as UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
