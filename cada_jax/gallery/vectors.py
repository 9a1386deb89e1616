"""Vectors and records in Milvus: milvus-lite in a folder, or a server. The one user of pymilvus.

Vectors have length 1 and are compared by the inner product, so similarities are cosines. Beside
the pictures lies a small collection of named texts, the gallery's state.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from cada_jax.common.errors import UsageError
from cada_jax.gallery.connection import connect, first_line
from cada_jax.gallery.extra import require
from cada_jax.gallery.place import Place
from cada_jax.gallery.vector_index import EXACT, INDEXES, search_settings

STATE = "_state"  # after the collection's name: where the state lies
META = "meta"  # the text of the state that is written last when a gallery is made
REWRITTEN = "_rewritten"  # the same: a copy without what was deleted, until it takes the place
INSERTED = 500  # rows sent at once: 1 MB of vectors
READ = 4_000  # rows read at once
SEARCHED = 64  # queries sent at once
_LONGEST = 65_535  # bytes of a text


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
        try:
            self.client = connect(place)
            self._finish_rewriting()
        except UsageError:
            raise
        except Exception as err:  # pymilvus raises many kinds when it cannot connect
            raise UsageError(
                f"{place.name}: expected a vector database, but opening it failed "
                f"({first_line(err)}). See that the address is right and the server runs."
            ) from err

    def close(self) -> None:
        """Disconnects."""
        with contextlib.suppress(Exception):
            self.client.close()

    @_translated
    def exists(self) -> bool:
        """Whether the gallery was made, to the end."""
        for name in (self.name, self.name + STATE):
            if not self.client.has_collection(name):
                return False
        self.load()
        return META in self.state()

    @_translated
    def create(self, width: int, index: str = EXACT, shards: int = 1) -> None:
        """Makes the collections; older ones are dropped.

        Args:
          width: numbers in a vector.
          index: one of `vector_index.INDEXES`.
          shards: parts that a server's nodes share out.
        """
        for name in (self.name, self.name + STATE):
            if self.client.has_collection(name):
                self.client.drop_collection(name)
        self._create_pictures(self.name, width, index, shards)
        kinds = _data_types()
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=256)
        schema.add_field("value", kinds.VARCHAR, max_length=_LONGEST)
        schema.add_field("unused", kinds.FLOAT_VECTOR, dim=2)  # a collection needs a vector
        self._create(self.name + STATE, schema, "unused")

    def _create_pictures(self, name: str, width: int, index: str, shards: int) -> None:
        kinds = _data_types()
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=32)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=width)
        schema.add_field("path_key", kinds.VARCHAR, max_length=_LONGEST)
        schema.add_field("camera_key", kinds.VARCHAR, max_length=_LONGEST)
        schema.add_field("taken", kinds.DOUBLE)
        schema.add_field("content", kinds.VARCHAR, max_length=64)
        schema.add_field("record", kinds.VARCHAR, max_length=_LONGEST)
        self._create(name, schema, "vector", index, shards)

    def _create(
        self, name: str, schema: Any, vector: str, index: str = EXACT, shards: int = 1
    ) -> None:
        params = self.client.prepare_index_params()
        settings = {"metric_type": "IP", "params": INDEXES[index]}
        params.add_index(vector, index_type=index, **settings)
        self.client.create_collection(
            name,
            schema=schema,
            index_params=params,
            consistency_level="Strong",
            num_shards=shards,
        )

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

        milvus-lite keeps deleted rows in its files, so the pictures are copied into a new
        collection, and the old one is dropped with its files. A server drops them when it
        compacts, and by its own rules for retention.
        """
        self.client.flush(self.name)
        if self.place.folder is None:
            self.client.compact(self.name)
            return
        copy = self.name + REWRITTEN
        width = self._width()
        self._create_pictures(copy, width, self.index, 1)
        fields = ("id", "vector", "path_key", "camera_key", "taken", "content", "record")
        batch: list[dict] = []
        for row in self._all(self.name, fields):
            batch.append({field: row[field] for field in fields})
            if len(batch) == INSERTED:
                self.client.insert(copy, batch)
                batch = []
        if batch:
            self.client.insert(copy, batch)
        self.client.flush(copy)
        self.client.drop_collection(self.name)
        self.client.rename_collection(copy, self.name)
        self.client.load_collection(self.name)

    def _width(self) -> int:
        fields = self.client.describe_collection(self.name)["fields"]
        return int(next(f["params"]["dim"] for f in fields if f["name"] == "vector"))

    def _finish_rewriting(self) -> None:
        """Ends what a crash interrupted: a copy is whole when the original is gone."""
        copy = self.name + REWRITTEN
        if not self.client.has_collection(copy):
            return
        if self.client.has_collection(self.name):
            self.client.drop_collection(copy)
        else:
            self.client.rename_collection(copy, self.name)


def _data_types() -> Any:
    return require("pymilvus").DataType


def _is_id(text: str) -> bool:
    """Whether a text can be an id: others never reach a filter."""
    return len(text) == 32 and all(c in "0123456789abcdef" for c in text)
