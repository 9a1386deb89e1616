"""Where a gallery lies: a file of its own, or a collection on a Milvus server."""

import os
import urllib.parse
from typing import NamedTuple

from cada_jax.common.errors import UsageError, reading
from cada_jax.common.files import local_path

COLLECTION = "pictures"  # unless the URI names another


class GalleryUri(NamedTuple):
    """The address of a gallery.

    file: absolute path of a local one, "" on a server; server: "http://HOST:PORT", maybe with a
    user and a password; collection: its name there.
    """

    file: str
    server: str = ""
    collection: str = ""

    @classmethod
    def read(cls, db: str | os.PathLike) -> "GalleryUri":
        """Reads what `--db` says.

        Args:
          db: a file, or "http://HOST:PORT", "https://..." with an optional "#COLLECTION".

        Raises:
          UsageError: it is empty, an address of another kind, or below nobody's home.
        """
        text = os.fspath(db)
        if not text.strip():
            raise UsageError(
                "--db is empty: expected a file, or http://HOST:PORT of a Milvus server"
            )
        scheme, separator, _ = text.partition("://")
        if not separator:
            return cls(str(local_path(text)))
        server, _, collection = text.partition("#")
        collection = collection or COLLECTION
        if scheme.lower() not in ("http", "https", "tcp"):
            raise UsageError(f"--db={text}: expected a file, or http://HOST:PORT of Milvus")
        with reading(f"--db={text}", "http://HOST:PORT of a Milvus server"):
            parts = urllib.parse.urlsplit(server)
            if not (parts.hostname, parts.port)[0]:  # both are parsed when they are read
                raise ValueError("no host")
        if not collection.isidentifier() or not collection.isascii():
            raise UsageError(
                f"--db={text}: {collection!r} names no collection: expected letters, digits and _"
            )
        return cls("", server, collection)

    @property
    def name(self) -> str:
        """What to call it in a message: without a password."""
        return self.file or f"{self.address}#{self.collection}"

    @property
    def address(self) -> str:
        """The server without user and password."""
        parts = urllib.parse.urlsplit(self.server)
        return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
