"""Vectors and records in Milvus: milvus-lite in a folder, or a server. The one user of pymilvus.

Beside the pictures lies a small collection of named texts, the gallery's state.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from cada_jax.common.errors import UsageError
from cada_jax.gallery import tables
from cada_jax.gallery.connection import connected, first_line
from cada_jax.gallery.extra import require
from cada_jax.gallery.place import Place
from cada_jax.gallery.tables import INSERTED
from cada_jax.gallery.vector_index import EXACT, search_settings

STATE = "_state"  # after the collection's name: where the state lies
META = "meta"  # the text of the state that is written last when a gallery is made
READ = 4_000  # rows read at once
SEARCHED = 64  # queries sent at once
TIMEOUT = 60.0  # seconds; a dead server is noticed


def _translated(method: Callable) -> Callable:
    """Turns what pymilvus raises into one line."""

    @functools.wraps(method)
    def call(self, *args, **kwargs):
        from pymilvus.exceptions import MilvusException

        try:
            return method(self, *args, **kwargs)
        except (MilvusException, ConnectionError, TimeoutError) as err:
            raise UsageError(
                f"{self.place.name}: the vector database refused ({first_line(err)}). Nothing "
                "that was written is lost: see that it runs and has room, and run the same again."
            ) from err

    return call


class Vectors:
    """The collections of one gallery; see the module.

    Args:
      place: of the gallery; a local one is held by this process.

    Raises:
      UsageError: pymilvus is missing, or the database cannot be reached.
    """

    def __init__(self, place: Place):
        self.place, self.name = place, place.collection
        self.index = EXACT  # the gallery sets what it was made with
        require("pymilvus")
        self._stack = contextlib.ExitStack()
        try:
            self.client = self._stack.enter_context(connected(place, TIMEOUT))
            for name in (self.name, self.name + STATE):
                tables.finish_rewriting(self.client, name)
        except BaseException as err:  # pymilvus raises many kinds when it cannot connect
            self.close()
            if isinstance(err, UsageError) or not isinstance(err, Exception):
                raise
            raise UsageError(
                f"{place.name}: expected a vector database, but opening it failed "
                f"({first_line(err)}). See that the address is right and the server runs."
            ) from err

    def close(self) -> None:
        """Disconnects."""
        self._stack.close()

    @_translated
    def exists(self) -> bool:
        """Whether the gallery was made, to the end."""
        for name in (self.name, self.name + STATE):
            if not self.client.has_collection(name):
                return False
        self.load()
        return self.text(META) is not None

    @_translated
    def make_state(self) -> None:
        """Makes the collection of the state if it is missing.

        Raises:
          UsageError: a collection of the gallery's name is there that is none of ours.
        """
        state = self.name + STATE
        foreign = next((n for n in (state, self.name) if not self._ours(n, state)), None)
        if foreign:
            raise UsageError(
                f"{self.place.name}: the collection {foreign!r} is there and is no gallery. "
                f"Nothing was touched: choose another one, --db={self.place.shown_uri}#NAME"
            )
        if self.client.has_collection(state):
            if self.client.list_indexes(state):
                self.client.load_collection(state)
                return
            self.client.drop_collection(state)  # a crash came before its index: it is empty
        tables.create_state(self.client, state)

    def _ours(self, name: str, state: str) -> bool:
        """Whether a collection is missing or one of a gallery; the state is made first."""
        if not self.client.has_collection(name):
            return True
        fields = {f["name"] for f in self.client.describe_collection(name)["fields"]}
        expected = {"id", "value"} if name == state else {"id", "vector", "path_key", "record"}
        return expected <= fields and self.client.has_collection(state)

    @_translated
    def create(self, width: int, index: str = EXACT, shards: int = 1) -> None:
        """Makes the collection of pictures.

        Older pictures are dropped. An older state stays but for `META`, without which no gallery
        is there: a crash leaves one that is made again.

        Args:
          width: numbers in a vector.
          index: one of `vector_index.INDEXES`.
          shards: parts that a server's nodes share out.
        """
        self.make_state()
        self.client.delete(self.name + STATE, ids=[META])
        if self.client.has_collection(self.name):
            self.client.drop_collection(self.name)
        tables.create_pictures(self.client, self.name, width, index, shards)

    @_translated
    def load(self) -> None:
        """Makes the collections searchable."""
        for name in (self.name, self.name + STATE):
            self.client.load_collection(name)

    @_translated
    def count(self) -> int:
        """Number of pictures."""
        found = self.client.query(self.name, filter="", output_fields=["count(*)"])
        return int(found[0]["count(*)"])

    @_translated
    def rows(self, fields: Sequence[str]) -> list[dict]:
        """Chosen fields of all pictures."""
        return list(self._all(self.name, fields))

    def _all(self, name: str, fields: Sequence[str], filter: str = "") -> Iterator[dict]:
        steps = self.client.query_iterator(
            name, filter=filter, batch_size=READ, output_fields=list(fields)
        )
        try:
            while batch := steps.next():
                yield from batch
        finally:
            steps.close()

    @_translated
    def add(self, rows: Sequence[dict]) -> None:
        """Writes rows; one with the same id is replaced."""
        for begin in range(0, len(rows), INSERTED):
            self.client.upsert(self.name, list(rows[begin : begin + INSERTED]))

    @_translated
    def remove(self, ids: Sequence[str]) -> None:
        """Deletes rows; unknown ids are ignored."""
        for begin in range(0, len(ids), INSERTED):
            self.client.delete(self.name, ids=list(ids[begin : begin + INSERTED]))

    @_translated
    def get(self, ids: Sequence[str], fields: Sequence[str]) -> dict[str, dict]:
        """Rows by id; unknown ids are not in it."""
        found: dict[str, dict] = {}
        wanted = sorted({id for id in ids if _is_id(id)})
        for begin in range(0, len(wanted), INSERTED):
            part = wanted[begin : begin + INSERTED]
            for row in self.client.get(self.name, ids=part, output_fields=list(fields)):
                found[row["id"]] = row
        return found

    @_translated
    def search(
        self, vectors: np.ndarray, k: int, filter: str, fields: Sequence[str]
    ) -> list[list[tuple[float, dict]]]:
        """The k nearest rows of every vector that a filter admits: (cosine, fields), best first.

        Args:
          vectors: float32 [Q,E] of length 1.
          k: at most 16,384, Milvus's limit.
          filter: in Milvus's language, "" for all.
          fields: what to return of a row.
        """
        found = []
        for begin in range(0, len(vectors), SEARCHED):
            hits = self.client.search(
                self.name,
                data=list(np.asarray(vectors[begin : begin + SEARCHED], np.float32)),
                anns_field="vector",
                limit=k,
                filter=filter,
                output_fields=list(fields),
                search_params={"metric_type": "IP", "params": search_settings(self.index, k)},
            )
            found += [[(float(h["distance"]), h["entity"]) for h in line] for line in hits]
        return found

    @_translated
    def flush(self) -> None:
        """Writes what is in memory to storage."""
        for name in (self.name, self.name + STATE):
            self.client.flush(name)

    @_translated
    def state(self, prefix: str = "") -> dict[str, str]:
        """The named texts whose names begin with `prefix`."""
        rows = self._all(self.name + STATE, ["id", "value"])
        return {row["id"]: row["value"] for row in rows if row["id"].startswith(prefix)}

    @_translated
    def text(self, name: str) -> str | None:
        """One of the named texts, None if it is not there."""
        rows = self.client.get(self.name + STATE, ids=[name], output_fields=["value"])
        return rows[0]["value"] if rows else None

    @_translated
    def set_state(self, texts: dict[str, str]) -> None:
        """Writes named texts."""
        unused = np.zeros(2, np.float32)
        rows = [{"id": key, "value": value, "unused": unused} for key, value in texts.items()]
        for begin in range(0, len(rows), INSERTED):
            self.client.upsert(self.name + STATE, rows[begin : begin + INSERTED])

    @_translated
    def drop_state(self, keys: Iterable[str]) -> None:
        """Deletes named texts."""
        if keys := list(keys):
            self.client.delete(self.name + STATE, ids=keys)

    @_translated
    def rewrite(self) -> None:
        """Leaves no deleted row in storage.

        milvus-lite keeps deleted rows in its files, so what is left is copied. A server drops them
        when it compacts, and by its own rules for retention.
        """
        for name in (self.name, self.name + STATE):
            self.client.flush(name)
            if self.place.folder is None:
                self.client.compact(name)
            else:
                tables.rewrite(self.client, name, self._all, self.index)


def _is_id(text: str) -> bool:
    """Whether a text can be an id: others never reach a filter."""
    return len(text) == 32 and all(c in "0123456789abcdef" for c in text)
