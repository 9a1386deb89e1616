"""Finds images below a source folder by the names that lists give them.

A name is found as it is written; or with back-slashes for slashes; or in another Unicode form (NFC,
NFD); or in other capitals. Nothing outside the folder is opened, unless a link in it leads out.
"""

import os
import pathlib
import unicodedata


def name_problem(name: str) -> str | None:
    """Returns why a name cannot be an image's path below the folder, None if it can."""
    if not name.strip() or "\0" in name or any("\ud800" <= c <= "\udfff" for c in name):
        return "is no name of a file: expected a path below the folder, in UTF-8"
    if pathlib.PureWindowsPath(name).anchor or ".." in name.replace("\\", "/").split("/"):
        return "leads out of the folder: write it relative to the folder"
    return None


class ImageFolder:
    """The images below `root/imgs`, or below `root` without that level."""

    def __init__(self, root: str | os.PathLike):
        """Looks at nothing yet."""
        self._bases = (os.path.join(root, "imgs"), os.fspath(root))
        self._listings: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> list[str]:
        """Returns the files that a name may mean; `name_problem` has nothing against it."""
        for base in self._bases:
            path = os.path.join(base, name)
            if os.path.isfile(path):
                return [os.path.normpath(path)]
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        for base in self._bases:
            paths = [base]
            for part in parts:
                paths = [os.path.join(p, n) for p in paths for n in self._alike(p, part)]
            if files := list(filter(os.path.isfile, paths)):
                return files
        return []

    def _alike(self, folder: str, name: str) -> list[str]:
        """Names in a folder that differ from `name` in form only, else in capitals."""
        if folder not in self._listings:
            groups: dict[str, list[str]] = {}
            if os.path.isdir(folder):
                for entry in sorted(os.listdir(folder)):
                    groups.setdefault(_form(entry).casefold(), []).append(entry)
            self._listings[folder] = groups
        names = self._listings[folder].get(_form(name).casefold(), [])
        return [n for n in names if _form(n) == _form(name)] or names


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name)
