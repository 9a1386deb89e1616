"""The manifest of a folder: the SHA-256 of every file in it. One function answers "is this whole".

FOLDER/cada_jax.json    {"sha256": {"params/d/9b1f...": "c0ffee...", "config.json": "..."}}

It is written last, and the folder gets its name after it. A folder without a manifest is not whole.
What is looked for is damage, not a forger.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
from typing import Any

from cada_jax.common.errors import UsageError
from cada_jax.common.files import BEING_WRITTEN, write_json

MANIFEST_FILE = "cada_jax.json"
NAMED = 3  # damaged files that a message names


def _files(folder: pathlib.Path) -> list[str]:
    paths = (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    names = {p.relative_to(folder).as_posix() for p in paths}
    return sorted(names - {MANIFEST_FILE, BEING_WRITTEN})


def _digest(file: pathlib.Path) -> str:
    """SHA-256 of a file; why it cannot be read, for one that cannot."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as e:
        return e.strerror or type(e).__name__


def _digests(folder: pathlib.Path, names: list[str]) -> dict[str, str]:
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:  # hashing frees the GIL
        return dict(zip(names, threads.map(lambda n: _digest(folder / n), names), strict=True))


def write(folder: pathlib.Path) -> None:
    """Writes the manifest of everything that lies in a folder."""
    write_json(folder / MANIFEST_FILE, {"sha256": _digests(folder, _files(folder))})


def _listed(folder: pathlib.Path) -> dict[str, str]:
    """File -> digest by the manifest; {} where there is none, or no readable one."""
    try:
        found: Any = json.loads((folder / MANIFEST_FILE).read_bytes())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def damage(folder: pathlib.Path) -> str | None:
    """What is wrong with a folder; None if every file of its manifest is as it was written.

    Files that the manifest does not name are no damage: nothing reads them.
    """
    listed = _listed(folder)
    if not listed:
        return f"{MANIFEST_FILE}, the list of its files, is missing or damaged"
    found = _digests(folder, list(listed))
    bad = [name for name, digest in listed.items() if found[name] != digest]
    if not bad:
        return None
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return f"not as it was written: {', '.join(bad[:NAMED])}{more}"


def check(folder: pathlib.Path, remedy: str) -> None:
    """Raises UsageError, in one line that ends with `remedy`, unless the folder is whole."""
    found = damage(folder)
    if found:
        raise UsageError(f"{folder} is damaged ({found}). {remedy}")


def holds_nothing_else(folder: pathlib.Path) -> bool:
    """Whether this program wrote a folder, and every file in it: it may be replaced."""
    return folder.is_dir() and bool(listed := _listed(folder)) and set(_files(folder)) <= {*listed}
