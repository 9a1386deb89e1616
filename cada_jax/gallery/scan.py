"""Finds the picture files below folders, and counts what else lies there."""

import collections
import dataclasses
import fnmatch
import importlib.util
import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.files import absolute

# Of the formats that `common.images` reads.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".dib"),
    *(".webp", ".tif", ".tiff", ".gif", ".avif"),
)
HEIC = (".heic", ".heif", ".hif")
HEIC_ADVICE = "for HEIC: pip install pillow-heif"
# Names that servers and desktops keep previews, deleted files and copies under; and hidden ones.
EXCLUDED = (
    *(".*", "@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "$RECYCLE.BIN"),
    *("System Volume Information", "lost+found", "thumbnails", "thumbs"),
)


class File(NamedTuple):
    """A picture file, as `os.stat` sees it; times are nanoseconds since 1970.

    path: absolute; size: bytes; modified_ns: of the content; changed_ns: of the content or of what
    the system notes of the file.
    """

    path: str
    size: int
    modified_ns: int
    changed_ns: int


class Problem(NamedTuple):
    """A path that cannot be indexed, and why."""

    path: str
    reason: str


@dataclasses.dataclass
class Scan:
    """What lies below the roots.

    Attributes:
      files: pictures, sorted by path.
      problems: what cannot be looked at.
      left_out: number of other files by kind: "MP4", "TXT", "no ending".
      empty: roots without a picture.
    """

    files: list[File] = dataclasses.field(default_factory=list)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    left_out: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    empty: list[str] = dataclasses.field(default_factory=list)


def check_roots(roots: Sequence[str | os.PathLike]) -> list[str]:
    """The roots as absolute paths.

    Raises:
      MissingFileError: one is not there.
      UsageError: there is none.
    """
    if not roots:
        raise UsageError("no folder was given: expected at least one folder or picture file")
    paths = [absolute(root) for root in roots]
    for root, path in zip(roots, paths, strict=True):
        if not os.path.exists(path):
            raise MissingFileError(
                f"{os.fspath(root)}: expected a folder of pictures, but there is none. If it is on "
                "a drive that is not mounted, mount it; nothing was removed from the gallery"
            )
    return paths


def find_files(
    roots: Sequence[str | os.PathLike], exclude: Sequence[str] = (), own: str = ""
) -> Scan:
    """Looks through folders and everything below them, symbolic links too.

    A folder or file that is met twice, by a link or by overlapping roots, counts once, by the
    path that comes first: roots in their order, entries by name, real ones before links. Pictures
    are known by their suffix.

    Args:
      roots: folders, or single files of any suffix.
      exclude: globs besides `EXCLUDED` of names, or with a "/" of paths, that are left out. The
        roots themselves are not.
      own: the gallery's file; what belongs to it is no file of the user's.

    Raises:
      UsageError: as of `check_roots`.
    """
    walk = _Walk((*EXCLUDED, *exclude), own)
    for path in check_roots(roots):
        found = list(walk.folder(path) if os.path.isdir(path) else walk.file(path))
        walk.scan.files += found
        if not found:
            walk.scan.empty.append(path)
    walk.scan.files.sort()
    walk.scan.problems.sort()
    return walk.scan


class _Walk:
    def __init__(self, exclude: Sequence[str], own: str):
        self.scan = Scan()
        names = [fnmatch.translate(glob) for glob in exclude if "/" not in glob]
        self._names = re.compile("|".join(names))
        self._paths = [re.compile(fnmatch.translate(glob)) for glob in exclude if "/" in glob]
        self._own = own
        self._suffixes = SUFFIXES + (HEIC if importlib.util.find_spec("pillow_heif") else ())
        self._seen: set[tuple[int, int]] = set()

    def _first_time(self, found: os.stat_result) -> bool:
        key = found.st_dev, found.st_ino
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _problem(self, path: str, reason: str) -> None:
        shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        self.scan.problems.append(Problem(shown, reason))

    def _is_excluded(self, entry: os.DirEntry) -> bool:
        if self._names.match(entry.name) or any(p.match(entry.path) for p in self._paths):
            return True
        ending = entry.path.removeprefix(self._own or "/")
        return ending in ("", ".tokens", ".lock", "-wal", "-shm", ".partial")

    def folder(self, top: str) -> Iterator[File]:
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
                if self._is_excluded(entry):
                    continue
                try:
                    is_folder = entry.is_dir()
                except OSError as err:
                    self._problem(entry.path, f"cannot be read ({err.strerror})")
                    continue
                if is_folder:
                    inner.append(entry.path)
                elif entry.name.lower().endswith(self._suffixes):
                    yield from self.file(entry.path)
                else:
                    kind = os.path.splitext(entry.name)[1][1:].upper()
                    self.scan.left_out["HEIC" if f".{kind.lower()}" in HEIC else kind] += 1
            waiting += reversed(inner)

    def file(self, path: str) -> Iterator[File]:
        try:
            path.encode()
            found = os.stat(path)
        except UnicodeEncodeError:
            self._problem(path, "its name is not UTF-8: rename it")
        except FileNotFoundError:
            self._problem(path, "is a link to a file that is not there")
        except OSError as err:
            self._problem(path, f"cannot be read ({err.strerror})")
        else:
            if not stat.S_ISREG(found.st_mode):
                self._problem(path, "is no ordinary file")
            elif self._first_time(found):
                yield File(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
