"""A gallery in one SQLite file, with its image tokens in a second file beside it.

Readers go on while one process writes. The vectors are compared exactly, on the device, as
evaluation compares them.
"""

import dataclasses
import json
import os
import secrets
import threading
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from cada_jax.common.errors import UsageError
from cada_jax.gallery.store import MOST_CAMERAS, MOST_FOLDERS, Encoded, Meta
from cada_jax.gallery.store.database import Database, State
from cada_jax.gallery.store.loaded import LoadedVectors, vector_crc
from cada_jax.gallery.store.tokens import TokenFile
from cada_jax.retrieval.filter import Filter
from cada_jax.retrieval.searchable import Neighbor, Picture

_GIVEN = "IN (SELECT value FROM json_each(?))"
MOST_KEPT = 32  # filters whose pictures are remembered until the next change


class SqliteStore:
    """A local gallery; see `Store`.

    Args:
      path: of the file, which `database.create` made.
      writes: this process alone writes meanwhile: the caller holds the gallery's lock.

    Raises:
      MissingFileError: there is none.
      UsageError: it cannot be read, or is damaged.
    """

    def __init__(self, path: str, writes: bool = False):
        self.name = path
        self._db = Database(path, thorough=writes)
        self._sql = self._db.sql
        self._searching = threading.Lock()
        self._loaded: LoadedVectors | None = None
        self._admitted: tuple[int, dict[Filter, np.ndarray]] = -1, {}  # as of so many changes
        self._sound = -1  # records up to this number are
        self._meta = self.meta()
        self._tokens = TokenFile(f"{path}.tokens", self._db.state().mark)
        if writes:
            self._begin_writing()

    def _begin_writing(self) -> None:
        """Ends what a killed process began, and finds the free slots of the tokens."""
        with self._db.errors():
            command = "SELECT slot, id FROM pictures WHERE slot IS NOT NULL"
            places = self._sql.execute(command).fetchall()
        missing = self._tokens.begin(slot for slot, _ in places)
        if lost := [id for slot, id in places if slot in missing]:
            pictures, encoded = self.rows(lost), self.encoded(lost)
            # The next indexing encodes them again.
            self.put([(p, encoded[id]._replace(tokens=None)) for id, p in pictures.items()])
        if self._db.state().unfinished:
            self.compact()

    def meta(self) -> Meta:
        values = self._db.text("meta")
        return Meta(**values | {"image_size": tuple(values["image_size"])})

    def changes(self) -> int:
        return self._now().changes

    def _now(self) -> State:
        """The state; a gallery that was made anew since then is known by its mark."""
        state = self._db.state()
        if state.mark != self._tokens.mark:
            if self.meta().model != self._meta.model:
                raise UsageError(f"{self.name} was indexed anew by another model: start again")
            self._tokens.close()
            self._tokens = TokenFile(f"{self.name}.tokens", state.mark)
        return state

    def __len__(self) -> int:
        return self._now().count

    def put(self, rows: Sequence[tuple[Picture, Encoded]], remove: Collection[str] = ()) -> None:
        fresh = {i: r.tokens for i, (_, r) in enumerate(rows) if isinstance(r.tokens, np.ndarray)}
        written = self._tokens.write(np.stack([*fresh.values()])) if fresh else []
        places = dict(zip(fresh, written, strict=True))
        with self._db.change() as state:
            self._delete(state, [*remove, *(picture.id for picture, _ in rows)])
            new: list[tuple] = []
            for i, (picture, encoded) in enumerate(rows):
                number = state.next + i
                record = number, *_values(picture), *(places.get(i, encoded.tokens) or (None, None))
                vector = np.asarray(encoded.vector, "<f4").tobytes()
                new.append((*record, _crc(record), vector, vector_crc(number, vector)))
            self._sql.executemany(f"INSERT INTO pictures VALUES (?{19 * ', ?'})", new)
            state.next += len(new)
            state.count += len(new)
            state.records += sum(row[17] for row in new)
            state.vectors += sum(row[19] for row in new)
            if known := self.forgotten() & {picture.content for picture, _ in rows}:
                back = [(content,) for content in known]
                self._sql.executemany("DELETE FROM forgotten WHERE content = ?", back)
                state.forgotten -= sum(zlib.crc32(content.encode()) for content in known)

    def _delete(self, state: State, ids: Collection[str]) -> None:
        command = f"DELETE FROM pictures WHERE id {_GIVEN} RETURNING crc, vector_crc"
        gone = self._sql.execute(command, (json.dumps(list(ids)),)).fetchall()
        state.count -= len(gone)
        state.records -= sum(crc for crc, _ in gone)
        state.vectors -= sum(crc for _, crc in gone)

    def forget(self, ids: Collection[str], contents: Collection[str]) -> None:
        with self._db.change() as state:
            self._delete(state, ids)
            new = set(contents) - self.forgotten()
            self._sql.executemany("INSERT INTO forgotten VALUES (?)", [(c,) for c in sorted(new)])
            state.forgotten += sum(zlib.crc32(content.encode()) for content in new)
            state.unfinished = True

    def forgotten(self) -> set[str]:
        with self._db.moment() as state:
            found = {content for (content,) in self._sql.execute("SELECT content FROM forgotten")}
            if sum(zlib.crc32(content.encode()) for content in found) != state.forgotten:
                raise self._db.damaged("its list of what is forgotten")
            return found

    def rows(self, ids: Iterable[str] | None = None) -> dict[str, Picture]:
        with self._db.moment():
            if ids is None:
                self._check_all()
            return {row[1]: _picture(row) for row in self._of(ids)}

    def _of(self, ids: Iterable[str] | None) -> Iterator[tuple]:
        if ids is None:
            return self._records("")
        return self._records(f"WHERE id {_GIVEN}", json.dumps(list(ids)))

    def _records(self, where: str, *values: Any) -> Iterator[tuple]:
        """Rows within a transaction, each checked."""
        for row in self._sql.execute(f"SELECT * FROM pictures {where}", values):
            if (_crc(row[:17]), vector_crc(row[0], row[18])) != (row[17], row[19]):
                raise self._db.damaged(f"the record of picture {row[0]}")
            yield row

    def _check_all(self) -> None:
        """Checks, within a transaction, the records that are new since the last time.

        That of a damaged one would just not be found by a filter.
        """
        if self._sound < 0:
            state = self._db.state()
            totals = self._sql.execute("SELECT COUNT(*), IFNULL(SUM(crc), 0) FROM pictures")
            if totals.fetchone() != (state.count, state.records):
                raise self._db.damaged("some of its records are missing")
        for row in self._records("WHERE number > ?", self._sound):
            self._sound = max(self._sound, row[0])

    def encoded(self, ids: Iterable[str]) -> dict[str, Encoded]:
        with self._db.errors():
            return {
                row[1]: Encoded(np.frombuffer(row[18], "<f4"), _picture(row).tokens)
                for row in self._of(ids)
            }

    def nearest(
        self, embeddings: np.ndarray, k: int, filter: Filter, mesh: Mesh
    ) -> list[list[Neighbor]]:
        with self._searching:
            with self._db.moment() as state:
                loaded = self._loaded = self._loaded or LoadedVectors(self._meta.width, mesh)
                if not loaded.refresh(self._sql, state):
                    raise self._db.damaged("some of its vectors")
                if not state.count:
                    return [[] for _ in embeddings]
                admitted = None if filter.admits_all else self._mask(filter, state, loaded)
            found = loaded.nearest(embeddings, k, admitted)  # meanwhile others may read and write
        numbers = {number for line in found for number, _ in line}
        with self._db.moment() as now:
            given = json.dumps(list(numbers))
            there = {r[0]: _picture(r) for r in self._records(f"WHERE number {_GIVEN}", given)}
        if len(there) != len(numbers) and now.changes == state.changes:
            raise self._db.damaged("some of its records are missing")
        lines = [[Neighbor(there[n], cosine) for n, cosine in line if n in there] for line in found]
        # Of equal cosines the order is that of the ids, wherever the vectors lie in memory.
        return [sorted(line, key=lambda n: (-n.similarity, n.picture.id)) for line in lines]

    def _mask(self, filter: Filter, state: State, loaded: LoadedVectors) -> np.ndarray:
        """Which of the loaded vectors a filter admits."""
        changes, kept = self._admitted
        if changes != state.changes or len(kept) >= MOST_KEPT:
            self._admitted = _, kept = state.changes, {}
        if filter not in kept:
            self._check_all()
            folders = self._sql.execute("SELECT DISTINCT folder FROM pictures").fetchall()
            parts, values = [], []
            for column, operator, value in filter.conditions(name for (name,) in folders):
                many = operator == "in"
                parts.append(f"{column} {_GIVEN if many else f'{operator} ?'}")
                values.append(json.dumps(value) if many else value)
            command = f"SELECT number FROM pictures WHERE {' AND '.join(parts)}"
            numbers = [number for (number,) in self._sql.execute(command, values)]
            kept[filter] = loaded.mask(np.array(numbers, np.int64))
        return kept[filter]

    def tokens(self, pictures: Sequence[Picture]) -> list[np.ndarray | None]:
        self._now()
        return self._tokens.read([picture.tokens for picture in pictures])

    def summary(self) -> dict[str, Any]:
        with self._db.moment():
            self._check_all()
            names = {}
            for column, most in (("folder", MOST_FOLDERS), ("camera", MOST_CAMERAS)):
                rows = self._sql.execute(
                    f"SELECT {column} FROM pictures WHERE {column} <> '' GROUP BY 1 "
                    f"ORDER BY COUNT(*) DESC LIMIT {most}"
                )
                names[f"{column}s"] = sorted(name for (name,) in rows)
            totals = self._sql.execute(
                "SELECT COUNT(*), COUNT(DISTINCT folder || '/' || name), MIN(taken), MAX(taken) "
                "FROM pictures"
            ).fetchone()
        keys = "pictures", "files", "first_taken", "last_taken"
        return dict(zip(keys, totals, strict=True)) | names

    def note(self, meta: Meta, anew: bool = False) -> None:
        with self._db.change() as state:
            if anew:
                state.count = state.records = state.vectors = 0
                state.mark = secrets.token_hex(16)
                self._sql.execute("DELETE FROM pictures")
            self._db.note("meta", dataclasses.asdict(meta))
        self._meta = meta
        self._now()

    def compact(self) -> None:
        with self._db.errors():
            slots = self._sql.execute("SELECT slot FROM pictures WHERE slot IS NOT NULL")
            self._tokens.erase_free(slot for (slot,) in slots)
            self._db.clear()

    def close(self) -> None:
        self._db.close()
        self._tokens.close()


def _crc(record: tuple) -> int:
    return zlib.crc32(repr(record).encode())


def _values(picture: Picture) -> tuple:
    """The columns of a picture from its id to its person, as SQLite gives them back."""
    folder, name = os.path.split(picture.path)
    box = None if picture.box is None else json.dumps([float(side) for side in picture.box])
    score = None if picture.box_score is None else float(picture.box_score)
    return (
        *(picture.id, folder, name, picture.content, picture.size),
        *(picture.modified_ns, picture.changed_ns, float(picture.taken), picture.camera),
        *(picture.width, picture.height, box, score, picture.pid),
    )


def _picture(record: tuple) -> Picture:
    _, id, folder, name, content, size, modified_ns, changed_ns, taken, camera, *rest = record
    width, height, box, box_score, pid, slot, slot_crc, *_ = rest
    return Picture(
        *(id, os.path.join(folder, name), content, size, modified_ns, changed_ns, taken, camera),
        *(width, height, None if box is None else tuple(json.loads(box)), box_score, pid),
        tokens=None if slot is None else (slot, slot_crc),
    )
