"""Looks into the files of milvus-lite for what was removed: a look at the database cannot tell.

A deleted row stays in a file until that is written anew. Rows lie in Parquet, compressed, so that a
search for bytes finds nothing: they are decoded. An index is NumPy's array of the vectors. Anything
else, the log of what is not yet in such a file, is searched for bytes.
"""

import io
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from cada_jax.gallery.extra import require

STATE_COLUMN = "value"  # of the gallery's state: JSON
_ROWS = 4096  # decoded at once


class Trace(NamedTuple):
    """What tells of removed pictures.

    texts: whole values of a text column; parts: parts of the gallery's state; vectors: bytes of
    float32 vectors.
    """

    texts: frozenset[str]
    parts: tuple[str, ...]
    vectors: frozenset[bytes]


def find_traces(folder: pathlib.Path, trace: Trace) -> int:
    """How many of the texts, parts and vectors the files below a folder hold."""
    found: set[str | bytes] = set()
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        if data[:4] == b"PAR1":
            found |= _in_parquet(data, trace)
        elif data[:6] == b"\x93NUMPY":
            rows = np.load(io.BytesIO(data), allow_pickle=False).astype(np.float32)
            found |= trace.vectors.intersection(row.tobytes() for row in rows)
        else:
            found |= {text for text in (*trace.texts, *trace.parts) if text.encode() in data}
            found |= {vector for vector in trace.vectors if vector in data}
    return len(found)


def _in_parquet(data: bytes, trace: Trace) -> set[str | bytes]:
    found: set[str | bytes] = set()
    for name, values in _columns(data):
        for value in values:
            if isinstance(value, str):
                found |= {value} & trace.texts
                if name == STATE_COLUMN:
                    found |= {part for part in trace.parts if part in value}
            elif isinstance(value, list):
                found |= {np.asarray(value, np.float32).tobytes()} & trace.vectors
    return found


def _columns(data: bytes) -> Iterator[tuple[str, list[Any]]]:
    require("pyarrow")  # milvus-lite brings it
    parquet = require("pyarrow.parquet")
    with parquet.ParquetFile(io.BytesIO(data)) as file:
        for batch in file.iter_batches(_ROWS):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                yield name, column.to_pylist()
