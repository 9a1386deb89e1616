"""Where a gallery lies: a folder of its own, or a collection on a Milvus server.

DB/cada_gallery.json   marks the folder as ours
DB/lock                who has it open
DB/vectors.db/         milvus-lite: vectors and records
DB/tokens/             image tokens
DB/thumbnails/         small pictures that the server made
DB/unreadable.jsonl    what the last indexing could not read
"""

import contextlib
import json
import os
import pathlib
import re
import urllib.parse
from collections.abc import Iterator
from typing import NamedTuple

from cada_jax.common import folder_lock
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.files import contents, write_text

MARKER, FORMAT = "cada_gallery.json", 1
TOKENS = "tokens"  # the folder of a local gallery's tokens, below its own
COLLECTION = "pictures"  # unless the URI names another


class Place(NamedTuple):
    """The address of a gallery.

    uri: what pymilvus opens; collection: its name there; folder: of a local gallery, None for one
    on a server.
    """

    uri: str
    collection: str
    folder: pathlib.Path | None

    def tokens_at(self, token_place: str) -> str:
        """Where tokens are: the gallery's own folder goes with it when it is moved."""
        if self.folder and token_place == TOKENS:
            return str(self.folder / TOKENS)
        return token_place

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return str(self.folder) if self.folder else f"{self.shown_uri}#{self.collection}"

    @property
    def shown_uri(self) -> str:
        """The URI without a password."""
        parts = urllib.parse.urlsplit(self.uri)
        host = parts.netloc.rpartition("@")[2]
        return urllib.parse.urlunsplit(parts._replace(netloc=host))


def place_of(db: str | os.PathLike) -> Place:
    """Reads what `--db` says.

    Args:
      db: a folder, or "http://HOST:PORT", "https://..." with an optional "#COLLECTION".

    Raises:
      UsageError: it is empty, or an address of another kind.
    """
    text = os.fspath(db)
    if not text.strip():
        raise UsageError("--db is empty: expected a folder, or http://HOST:PORT of a Milvus server")
    scheme, separator, _ = text.partition("://")
    if not separator:
        folder = pathlib.Path(text).expanduser().absolute()
        return Place(str(folder / "vectors.db"), COLLECTION, folder)
    if scheme.lower() not in ("http", "https", "tcp"):
        raise UsageError(
            f"--db={text}: expected a folder, or http://HOST:PORT or https://HOST:PORT of a Milvus "
            f"server, and {scheme!r} is neither"
        )
    uri, _, collection = text.partition("#")
    collection = collection or COLLECTION
    if not collection.isidentifier() or not collection.isascii():
        raise UsageError(
            f"--db={text}: {collection!r} names no collection: expected letters, digits and _"
        )
    try:
        parts = urllib.parse.urlsplit(uri)
        host, _ = parts.hostname, parts.port  # both are parsed when they are read
    except ValueError as err:
        raise UsageError(
            f"--db={text}: expected http://HOST:PORT, and it has no address: {err}"
        ) from err
    if not host:
        raise UsageError(f"--db={text}: expected http://HOST:PORT, and there is no host in it")
    return Place(uri, collection, None)


def _held_in(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """What lies in a folder but for the mark that a killed process began to write."""
    begun = re.compile(rf"\.{re.escape(MARKER)}\.[0-9]+\.partial")
    return (path for path in folder.iterdir() if not begun.fullmatch(path.name))


def check_folder(folder: pathlib.Path) -> bool:
    """Whether a gallery lies in a folder; False where a new one may be made.

    Raises:
      UsageError: something else lies there, or a newer version's gallery.
    """
    marker = folder / MARKER
    try:
        if not os.path.lexists(folder) or (folder.is_dir() and not any(_held_in(folder))):
            return False
        foreign = ""
        if not folder.is_dir():
            foreign = "no folder"
        elif not marker.is_file():
            foreign = f"a folder with {contents(folder)}"
        format_ = None if foreign else json.loads(marker.read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise UsageError(f"{folder}: expected a gallery, but reading it failed: {err}.") from err
    if foreign:
        raise UsageError(
            f"{folder}: expected a gallery or a new path, found {foreign}. Nothing was touched: "
            "choose another --db."
        )
    if format_ != FORMAT:
        raise UsageError(
            f"{folder} is a gallery of format {format_!r}, and this version reads {FORMAT}: "
            "use the version of cada_jax that made it, or index again into another --db"
        )
    return True


def make_folder(folder: pathlib.Path) -> None:
    """Makes and marks the folder of a new gallery.

    Raises:
      UsageError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / MARKER, json.dumps({"format": FORMAT}) + "\n")
    except (OSError, ValueError) as err:
        raise UsageError(f"{folder}: expected a place for a gallery, but {err}.") from err


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
    """Holds a local gallery: milvus-lite serves one process.

    Raises:
      UsageError: another process has it open; the message names it.
    """
    lock = folder / "lock"
    remedy = (
        "A local gallery serves one process at a time: stop that one first, or keep the vectors "
        "on a Milvus server (--db=http://HOST:19530)."
    )
    try:
        folder_lock.acquire(lock, remedy=remedy)
    except OSError as err:
        raise UsageError(f"{folder}: the gallery cannot be opened: {err}.") from err
    try:
        yield
    finally:
        folder_lock.release(lock)


def require_gallery(place: Place) -> None:
    """Raises MissingFileError unless a local gallery is there."""
    if place.folder and not check_folder(place.folder):
        raise MissingFileError(
            f"{place.folder}: there is no gallery. Make one: python -m cada_jax index "
            f"--model=DIR --images=DIR --db={place.folder}"
        )
