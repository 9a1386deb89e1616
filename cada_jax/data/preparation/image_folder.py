"""Finds images below a source folder by the names that an annotation file gives them.

Nothing outside the folder is ever opened: absolute names and names with `..` are refused. A link
inside the folder may lead anywhere, because whoever made the folder put it there. A name is found
as it is written; or with back-slashes for slashes; or in another Unicode form (NFC, NFD); or in
other capitals if only one file has them.
"""

import os
import pathlib
import posixpath
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from cada_jax.data.preparation.json_list import shorten

COMPANION = "._"  # macOS puts such a file beside every file on foreign disks


class Found(NamedTuple):
    """Where an image is: a file, or a reason that there is none.

    Attributes:
      path: the file, None if there is none that may be read.
      problem: None if there is one.
      folder: for a name that is not there, its folder below imgs/ if that is missing whole.
    """

    path: str | None
    problem: str | None = None
    folder: str | None = None


def name_problem(name: object) -> str | None:
    """Returns why a name cannot be an image's path below imgs/, None if it can."""
    if not isinstance(name, str) or not name.strip():
        return "expected a path below imgs/"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate): write the file's name in UTF-8"
    if "\x00" in name:
        return "holds a zero byte: expected a path below imgs/"
    if name.startswith("/"):
        return "is an absolute path: write it relative to imgs/"
    if ".." in name.replace("\\", "/").split("/"):
        return "leads out of the folder by '..': write it relative to imgs/"
    if posixpath.basename(name.replace("\\", "/")).startswith(COMPANION):
        return "names a companion file of macOS, which is no image: leave the entry out"
    return None


class ImageFolder:
    """The images below `root/imgs`, or below `root` without that level."""

    def __init__(self, root: str | os.PathLike):
        """Looks at nothing yet."""
        self.bases = (os.path.join(root, "imgs"), os.fspath(root))
        self._listings: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> Found:
        """Returns the file of a name that `name_problem` has nothing against."""
        for base in self.bases:
            path = os.path.join(base, name)
            if os.path.isfile(path):
                return Found(path)
        if pathlib.PureWindowsPath(name).anchor:
            return Found(None, "is an absolute path: write it relative to imgs/")
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        ambiguous: list[str] = []
        for base in self.bases:
            files = list(filter(os.path.isfile, self._alike(base, parts)))
            if len(files) == 1:
                return Found(files[0])
            ambiguous = ambiguous or files
        if ambiguous:
            return Found(None, f"fits several files, {_listed(ambiguous)}: write one exactly")
        return self._missing(parts)

    def _missing(self, parts: list[str]) -> Found:
        folders = [
            folder
            for base in self.bases
            for folder in filter(os.path.isdir, self._alike(base, parts[:-1]))
        ]
        if not folders:
            return Found(None, "is missing", "/".join(parts[:-1]))
        if any(map(os.path.isdir, [p for base in self.bases for p in self._alike(base, parts)])):
            return Found(None, "is a folder: expected an image file")
        alike = [file for folder in folders for file in self._resembling(folder, parts[-1])]
        hint = f" (there is {_listed(alike)})" if alike else ""
        return Found(None, f"is missing{hint}")

    def _alike(self, base: str, parts: list[str]) -> list[str]:
        """The paths below `base` that `parts` may mean; not all of them need to exist."""
        paths = [base]
        for part in parts:
            paths = [os.path.join(path, name) for path in paths for name in self._same(path, part)]
        return paths

    def _same(self, folder: str, name: str) -> list[str]:
        """The names in a folder that differ from `name` in form or capitals only, best first."""
        names = self._listing(folder).get(_fold(name), [])
        for same in (lambda n: n == name, lambda n: _form(n) == _form(name)):
            exact = [n for n in names if same(n)]
            if exact:
                return exact
        return names

    def _resembling(self, folder: str, name: str) -> list[str]:
        """Other names in a folder that may be meant: another ending, or not written in UTF-8."""
        stem = _fold(os.path.splitext(name)[0])
        names = [n for group in self._listing(folder).values() for n in group]
        return [
            n
            for n in names
            if _fold(os.path.splitext(n)[0]) == stem
            or any(_fold(reading) == _fold(name) for reading in _foreign(n))
            or n == COMPANION + name
        ]

    def _listing(self, folder: str) -> dict[str, list[str]]:
        """The names in a folder, grouped by what `_fold` makes of them."""
        if folder not in self._listings:
            groups: dict[str, list[str]] = {}
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                names = []
            for name in names:
                groups.setdefault(_fold(name), []).append(name)
            self._listings[folder] = groups
        return self._listings[folder]


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _fold(name: str) -> str:
    return _form(_form(name).casefold())


def _foreign(name: str) -> Iterable[str]:
    """What a name that is not UTF-8 may read."""
    raw = os.fsencode(name)
    try:
        raw.decode()
    except UnicodeDecodeError:
        for encoding in ("latin-1", "cp437", "gb18030"):
            yield raw.decode(encoding, "replace")


def _listed(names: Iterable[str]) -> str:
    return " and ".join(shorten(os.path.basename(name)) for name in list(names)[:3])
