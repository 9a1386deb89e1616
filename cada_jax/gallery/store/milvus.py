"""A gallery on a Milvus server, for more pictures than one machine holds. Needs the extra `milvus`.

The vectors are compared by the server; image tokens are computed again from the files. Beside the
collection of pictures lies a small one of named texts. A server has no transaction over several
rows: a kill between two calls leaves pictures doubled or a count behind, which the next indexing
mends. Deleted rows leave its storage when it compacts, by its own rules for retention.
"""

import contextlib
import dataclasses
import importlib
import json
import logging
import os
import secrets
import socket
import threading
import time
import urllib.parse
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from cada_jax.common.errors import MissingFileError, UsageError, needs_extra, reason
from cada_jax.common.files import absolute
from cada_jax.gallery.store import Encoded, Meta, summarize
from cada_jax.gallery.uri import GalleryUri
from cada_jax.retrieval.filter import Filter
from cada_jax.retrieval.searchable import Neighbor, Picture

# Index of the vectors -> settings of building, those of Milvus's documentation for high recall.
INDEXES: dict[str, dict[str, Any]] = {
    "FLAT": {},  # every vector is compared: exact
    "HNSW": {"M": 32, "efConstruction": 360},  # a graph in memory beside the vectors
    "IVF_SQ8": {"nlist": 4096},  # a byte a number, in memory
    "DISKANN": {},  # a graph on SSD
}
AT_ONCE = 500  # rows sent at once: 1 MB of vectors
READ = 4_000  # rows read at once
TIMEOUT = 60.0  # seconds; a dead server is noticed
_FIELDS = ["id", "content", "record"]


class MilvusStore:
    """A gallery on a server; see `Store`.

    Args:
      uri: of the gallery. A user and a password may stand in it, a token in MILVUS_TOKEN.
      writes: this process alone writes meanwhile, which it notes on the server.
      new: what an empty gallery knows of its model, which is made where there is none.

    Raises:
      MissingFileError: there is none.
      UsageError: pymilvus is missing, the server cannot be reached or refuses, or another process
        writes.
    """

    def __init__(self, uri: GalleryUri, writes: bool = False, new: Meta | None = None):
        self.name, self._pictures = uri.name, uri.collection
        self._texts = f"{uri.collection}_state"
        self._lock, self._claim = threading.RLock(), ""
        with needs_extra("milvus"):
            self._pymilvus = importlib.import_module("pymilvus")
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints what it raises
        with self._errors():
            self._client = self._pymilvus.MilvusClient(uri.address, timeout=TIMEOUT, **_login(uri))
            names = self._pictures, self._texts
            there = [name for name in names if self._client.has_collection(name)]
            for name in there:
                fields = {f["name"] for f in self._client.describe_collection(name)["fields"]}
                if not {"id", "value"} <= fields and not {"vector", "folder", "record"} <= fields:
                    raise UsageError(
                        f"{self.name}: the collection {name!r} is there and is no gallery. Nothing "
                        f"was touched: choose another one, --db={uri.address}#NAME"
                    )
            if len(there) < 2 and new is not None:
                self._make(new)
            elif len(there) < 2:
                raise MissingFileError(
                    f"{self.name}: there is no gallery. Make one: python -m cada_jax index "
                    f"--model=DIR --images=DIR --db={uri.address}"
                )
            for name in names:
                self._client.load_collection(name)
            self._meta = self.meta()
            if writes:
                self._hold()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """What pymilvus raises becomes one line."""
        from pymilvus.exceptions import MilvusException

        with self._lock:
            try:
                yield
            except (MilvusException, ConnectionError, TimeoutError) as err:
                raise UsageError(
                    f"{self.name}: the vector database refused ({reason(err)}). Nothing that was "
                    "written is lost: see that the address is right and that it runs and has "
                    "room, and run the same again"
                ) from err

    def _make(self, meta: Meta) -> None:
        """Makes the collection of pictures anew, and that of the texts where it is missing."""
        if not self._client.has_collection(self._texts):
            self._collect(self._texts, 2, "FLAT", ["value"])  # a collection needs a vector
            self._set({"changes": "0", "summary": json.dumps(summarize([]))})
        if self._client.has_collection(self._pictures):
            self._client.drop_collection(self._pictures)
        columns = ["folder", "camera", "content", "record"]
        self._collect(self._pictures, meta.width, meta.index or "FLAT", columns)
        self._set({"meta": json.dumps(dataclasses.asdict(meta))})

    def _collect(self, name: str, width: int, index: str, columns: list[str]) -> None:
        kinds = self._pymilvus.DataType
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=256)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=width)
        schema.add_field("taken", kinds.DOUBLE)
        for column in columns:
            schema.add_field(column, kinds.VARCHAR, max_length=65_535)
        params = self._client.prepare_index_params()
        params.add_index("vector", index_type=index, metric_type="IP", params=INDEXES[index])
        self._client.create_collection(name, schema=schema, consistency_level="Strong")
        # Given both at once, pymilvus waits half a second for the index of no rows.
        self._client.create_index(name, params, sync=False)
        self._client.load_collection(name)

    def _hold(self) -> None:
        """Notes that this process writes.

        Everybody writes a row of their own, then reads all rows: of two who come at once, the later
        reader sees both.
        """
        own = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.ctime()}
        self._claim = f"writer/{secrets.token_hex(16)}"
        self._set({self._claim: json.dumps(own)})
        others = self._all("writer/")
        others.pop(self._claim)
        for key, text in others.items():
            holder = json.loads(text)
            if holder["host"] == own["host"] and not _is_running(holder["pid"]):
                self._drop([key])
                continue
            self._drop([self._claim])
            raise UsageError(
                f"{self.name} is in use by process {holder['pid']} on {holder['host']}, since "
                f"{holder['since']}. It changes the gallery: wait until it ends. If it was killed, "
                f"delete the row {key!r} of the collection {self._texts!r}"
            )

    def _all(self, prefix: str) -> dict[str, str]:
        """The named texts whose names begin so."""
        rows = self._rows(self._texts, ["id", "value"], f'id like "{prefix}%"')
        return {row["id"]: row["value"] for row in rows}

    def _text(self, name: str) -> str:
        with self._errors():
            rows = self._client.get(self._texts, ids=[name], output_fields=["value"])
        if not rows:
            raise UsageError(f"{self.name}: the gallery was not made to its end: index again")
        return rows[0]["value"]

    def _set(self, texts: dict[str, str]) -> None:
        rows = [{"id": k, "value": v, "vector": [0.0, 1.0], "taken": 0.0} for k, v in texts.items()]
        self._send(self._client.upsert, self._texts, rows)

    def _drop(self, names: Iterable[str]) -> None:
        self._send(self._client.delete, self._texts, list(names))

    def _send(self, call: Any, name: str, items: list) -> None:
        with self._errors():
            for begin in range(0, len(items), AT_ONCE):
                call(name, items[begin : begin + AT_ONCE])

    def _rows(self, name: str, fields: list[str], filter: str = "") -> Iterator[dict]:
        with self._errors():
            steps = self._client.query_iterator(
                name, filter=filter, batch_size=READ, output_fields=fields
            )
            try:
                while batch := steps.next():
                    yield from batch
            finally:
                steps.close()

    def _get(self, ids: Iterable[str], fields: list[str]) -> list[dict]:
        ids, found = [id for id in ids if _is_id(id)], []
        with self._errors():
            for begin in range(0, len(ids), AT_ONCE):
                some = ids[begin : begin + AT_ONCE]
                found += self._client.get(self._pictures, ids=some, output_fields=fields)
        return found

    def meta(self) -> Meta:
        values = json.loads(self._text("meta"))
        return Meta(**values | {"image_size": tuple(values["image_size"])})

    def changes(self) -> int:
        return int(self._text("changes"))

    def __len__(self) -> int:
        with self._errors():
            found = self._client.query(self._pictures, filter="", output_fields=["count(*)"])
        return int(found[0]["count(*)"])

    def put(self, rows: Sequence[tuple[Picture, Encoded]], remove: Collection[str] = ()) -> None:
        self._send(self._client.upsert, self._pictures, [_row(*row) for row in rows])
        self._send(self._client.delete, self._pictures, list(remove))
        self._drop(f"forgotten/{content}" for content in {picture.content for picture, _ in rows})
        self._set({"changes": str(self.changes() + 1)})

    def forget(self, ids: Collection[str], contents: Collection[str]) -> None:
        """As of `Store`. A kill after the first call leaves rows that the next indexing removes."""
        self._set({f"forgotten/{content}": "" for content in sorted(contents)})
        self.put([], remove=ids)

    def forgotten(self) -> set[str]:
        return {name.partition("/")[2] for name in self._all("forgotten/")}

    def rows(self, ids: Iterable[str] | None = None) -> dict[str, Picture]:
        rows = self._rows(self._pictures, _FIELDS) if ids is None else self._get(ids, _FIELDS)
        return {row["id"]: _picture(row) for row in rows}

    def encoded(self, ids: Iterable[str]) -> dict[str, Encoded]:
        rows = self._get(ids, ["id", "vector"])
        return {row["id"]: Encoded(np.asarray(row["vector"], np.float32)) for row in rows}

    def nearest(
        self, embeddings: np.ndarray, k: int, filter: Filter, mesh: Mesh
    ) -> list[list[Neighbor]]:
        visited = max(128, 2 * k)  # by an index that is not exact
        settings = {"HNSW": {"ef": visited}, "IVF_SQ8": {"nprobe": 128}}
        settings["DISKANN"] = {"search_list": visited}
        settings = settings.get(self._meta.index, {})
        with self._errors():
            lines = self._client.search(
                self._pictures,
                data=list(np.asarray(embeddings, np.float32)),
                anns_field="vector",
                limit=k,
                filter=_expression(filter),
                output_fields=_FIELDS,
                search_params={"metric_type": "IP", "params": settings},
            )
        near = [
            [Neighbor(_picture(h["entity"]), float(h["distance"])) for h in line] for line in lines
        ]
        return [sorted(line, key=lambda n: (-n.similarity, n.picture.id)) for line in near]

    def tokens(self, pictures: Sequence[Picture]) -> list[np.ndarray | None]:
        return [None] * len(pictures)

    def summary(self) -> dict[str, Any]:
        """As of `Store`, as it was when the last process that wrote had ended."""
        return json.loads(self._text("summary"))

    def note(self, meta: Meta, anew: bool = False) -> None:
        if anew:
            self._make(meta)
        self._set({"meta": json.dumps(dataclasses.asdict(meta))})
        self._meta = meta

    def compact(self) -> None:
        """As of `Store`: the server does so, by its own rules."""
        with self._errors():
            for name in (self._pictures, self._texts):
                self._client.flush(name)
                self._client.compact(name)

    def close(self) -> None:
        with contextlib.suppress(Exception):  # the server may be gone
            if self._claim:
                self._set({"summary": json.dumps(summarize(self.rows().values()))})
                self._drop([self._claim])
        with contextlib.suppress(Exception):
            self._client.close()


def _login(uri: GalleryUri) -> dict[str, str]:
    parts = urllib.parse.urlsplit(uri.server)
    if parts.username:
        return {"user": parts.username, "password": parts.password or ""}
    return {"token": os.environ.get("MILVUS_TOKEN", "")}


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _is_id(text: str) -> bool:
    """Whether a text can be an id: others never reach a filter."""
    return len(text) == 32 and all(c in "0123456789abcdef" for c in text)


def _quoted(text: str) -> str:
    """A text for Milvus's language, percent-encoded: then nothing needs escaping."""
    return urllib.parse.quote(text, safe="/")


def _expression(filter: Filter) -> str:
    """A filter in Milvus's language, "" for one that admits all.

    Everything below a folder lies, in the order of bytes, between "FOLDER/" and "FOLDER0": "0" is
    the character after "/". Which folders there are is not looked up: a server may hold millions.
    """
    parts = []
    for column, operator, value in filter.conditions([absolute(filter.folder)]):
        if operator == "in":
            folder = _quoted(value[0].rstrip("/"))
            parts.append(f'{column} >= "{folder}/" and {column} < "{folder}0"')
        elif isinstance(value, str):
            parts.append(f'{column} == "{_quoted(value)}"')
        else:
            parts.append(f"{column} {operator} {float(value)!r}")
    return " and ".join(parts)


def _row(picture: Picture, encoded: Encoded) -> dict:
    record = dataclasses.asdict(picture)
    del record["tokens"]
    return {
        "id": picture.id,
        "vector": np.asarray(encoded.vector, np.float32),
        "folder": f"{_quoted(picture.folder)}/",
        "camera": _quoted(picture.camera),
        "taken": float(picture.taken),
        "content": picture.content,
        "record": json.dumps(record),
    }


def _picture(row: dict) -> Picture:
    values = json.loads(row["record"])
    return Picture(**values | {"box": tuple(values["box"]) if values["box"] else None})
