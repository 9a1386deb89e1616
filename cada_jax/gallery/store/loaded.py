"""The vectors of a local gallery in memory, where they are compared, brought up to date with it."""

import sqlite3
import zlib
from typing import Any

import numpy as np
from jax.sharding import Mesh

from cada_jax.retrieval.in_memory import nearest_rows
from cada_jax.retrieval.search import ExactSearch

AT_ONCE = 10_000  # rows read at once


def vector_crc(number: int, vector: bytes) -> int:
    """The checksum of a row's vector: it belongs to that row."""
    return zlib.crc32(vector, number & 0xFFFFFFFF)


class LoadedVectors:
    """The vectors of a gallery; rows keep their numbers, and a new row has the largest.

    Args:
      width: E.
      mesh: of the devices that hold them.
    """

    def __init__(self, width: int, mesh: Mesh):
        self._width, self._mesh = width, mesh
        self._changes = self._last = -1
        self._search = ExactSearch(np.zeros((0, width), np.float32), mesh)
        self._numbers = np.zeros(0, np.int64)  # of each place, -1 for a free one
        self._crcs = np.zeros(0, np.int64)

    def refresh(self, sql: sqlite3.Connection, state: Any) -> bool:
        """Reads what is new and drops what is gone; False if the vectors are damaged.

        Args:
          sql: within a transaction.
          state: of that: changes, count, and the sum of the checksums of all vectors.
        """
        if self._changes == state.changes:
            return True
        found = self._read(sql, self._last)
        if found is None:
            return False
        numbers, crcs, vectors = found
        if self._used.sum() + len(numbers) != state.count:
            there = np.array([n for (n,) in sql.execute("SELECT number FROM pictures")], np.int64)
            gone = self._used & ~np.isin(self._numbers, there)
            self._numbers[gone], self._crcs[gone] = -1, 0
        self._put(numbers, crcs, vectors)
        if (self._used.sum(), self._crcs.sum()) != (state.count, state.vectors):
            return False
        self._changes = state.changes
        return True

    @property
    def _used(self) -> np.ndarray:
        return self._numbers >= 0

    def _read(self, sql: sqlite3.Connection, last: int) -> tuple | None:
        """(numbers, checksums, vectors) of the rows after `last`; None if one is damaged."""
        command = "FROM pictures WHERE number > ?"
        count = sql.execute(f"SELECT COUNT(*) {command}", (last,)).fetchone()[0]
        vectors = np.empty((count, self._width), np.float32)
        numbers, crcs = np.empty(count, np.int64), np.empty(count, np.int64)
        command = f"SELECT number, vector, vector_crc {command} ORDER BY number"
        rows, begin = sql.execute(command, (last,)), 0
        while part := rows.fetchmany(AT_ONCE):
            own, data, sums = zip(*part, strict=True)
            if [*map(vector_crc, own, data)] != [*sums]:
                return None
            end = begin + len(part)
            vectors[begin:end] = np.frombuffer(b"".join(data), "<f4").reshape(-1, self._width)
            numbers[begin:end], crcs[begin:end] = own, sums
            begin = end
        return numbers, crcs, vectors

    def _put(self, numbers: np.ndarray, crcs: np.ndarray, vectors: np.ndarray) -> None:
        if not len(numbers):
            return
        self._last = int(numbers[-1])
        if not len(self._numbers):  # the first time they go to the device as they are
            self._search = ExactSearch(vectors, self._mesh)
            self._numbers, self._crcs = numbers, crcs
            return
        places = np.flatnonzero(~self._used)[: len(numbers)]
        size = len(self._numbers)
        places = np.append(places, np.arange(size, size + len(numbers) - len(places)))
        self._search.put(places, vectors)
        more = len(self._search) - size
        self._numbers = np.append(self._numbers, np.full(more, -1))
        self._crcs = np.append(self._crcs, np.zeros(more, np.int64))
        self._numbers[places], self._crcs[places] = numbers, crcs

    def mask(self, numbers: np.ndarray) -> np.ndarray:
        """Which places hold rows of these numbers, bool; good until the next `refresh`."""
        return np.isin(self._numbers, numbers)

    def nearest(
        self, embeddings: np.ndarray, k: int, admitted: np.ndarray | None
    ) -> list[list[tuple[int, float]]]:
        """(number, cosine) of the k nearest at most, for every query, nearest first.

        Args:
          embeddings: float32 [Q,E] of length 1.
          k: at least 1.
          admitted: from `mask`, None for all.
        """
        places = self._used if admitted is None else admitted
        found = nearest_rows(self._search, embeddings, k, None if places.all() else places)
        return [[(int(self._numbers[row]), cosine) for row, cosine in line] for line in found]
