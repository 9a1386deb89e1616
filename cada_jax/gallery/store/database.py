"""The SQLite file of a gallery: recognised, made, opened with a check, changed by transactions.

Every row has a checksum, and each change keeps the sums of these: a row that is damaged, missing or
doubled is noticed when it is read.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import secrets
import sqlite3
import stat
import threading
import zlib
from collections.abc import Iterator
from typing import Any

from cada_jax.common.errors import MissingFileError, UsageError, reading, reason

APPLICATION, FORMAT = 0x43414441, 2  # "CADA"
WAIT = 30.0  # seconds for another process's transaction, which takes a moment
SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT, crc INTEGER) WITHOUT ROWID",
    "CREATE TABLE forgotten (content TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE pictures (number INTEGER PRIMARY KEY, id TEXT UNIQUE, folder TEXT, name TEXT, "
    "content TEXT, size INTEGER, modified_ns INTEGER, changed_ns INTEGER, taken REAL, camera TEXT, "
    "width INTEGER, height INTEGER, box TEXT, box_score REAL, pid INTEGER, slot INTEGER, "
    "slot_crc INTEGER, crc INTEGER, vector BLOB, vector_crc INTEGER)",
)


@dataclasses.dataclass
class State:
    """What a change leaves behind.

    mark: of the tokens that belong to the rows; changes: number of them; next: number of the next
    row; count: of pictures; records, vectors, forgotten: sums of checksums; unfinished: something
    was forgotten, and the file has not been cleared of it.
    """

    mark: str
    changes: int = 0
    next: int = 0
    count: int = 0
    records: int = 0
    vectors: int = 0
    forgotten: int = 0
    unfinished: bool = False


def exists(path: str) -> bool:
    """Whether a gallery lies at a path; False where a new one may be made.

    Raises:
      UsageError: something else lies there.
    """
    if not os.path.lexists(path):
        return False
    with reading(path, "a gallery"):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"{path}: expected a gallery's file; got a folder, pipe or device")
        with open(path, "rb") as file:
            head = file.read(100).ljust(100)
    numbers = tuple(int.from_bytes(head[at : at + 4], "big") for at in (68, 60))
    if head[:16] != b"SQLite format 3\0" or numbers != (APPLICATION, FORMAT):
        raise UsageError(
            f"{path}: expected a gallery or a new path; something else is there, or a gallery "
            "of another version, or one whose beginning is damaged. Nothing was touched: choose "
            "another --db"
        )
    return True


def create(path: str, meta: dict[str, Any]) -> None:
    """Makes an empty gallery; a kill leaves a whole one or none."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    partial = pathlib.Path(f"{path}.partial")
    partial.unlink(missing_ok=True)  # of a killed process
    with contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as new:
        new.execute("PRAGMA page_size = 8192")
        new.execute("PRAGMA journal_mode = WAL")
        new.execute(f"PRAGMA application_id = {APPLICATION}")
        new.execute(f"PRAGMA user_version = {FORMAT}")
        for statement in SCHEMA:
            new.execute(statement)
        _write(new, "meta", meta)
        _write(new, "state", dataclasses.asdict(State(secrets.token_hex(16))))
    os.replace(partial, path)


def _write(sql: sqlite3.Connection, name: str, value: dict) -> None:
    """Writes one of the named texts."""
    text = json.dumps(value)
    row = name, text, zlib.crc32(text.encode())
    sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", row)


class Database:
    """An open gallery's file; one thread at a time uses it.

    Attributes:
      sql: the connection, for use within `errors`, `change` or `moment`.

    Args:
      path: of the file, which `create` made.
      thorough: check the index of ids as well, by which a writer replaces rows.

    Raises:
      MissingFileError: there is none.
      UsageError: it cannot be read, or is damaged.
    """

    def __init__(self, path: str, thorough: bool):
        if not exists(path):
            raise MissingFileError(
                f"{path}: there is no gallery. Make one: python -m cada_jax index --model=DIR "
                f"--images=DIR --db={path}"
            )
        self._path, self._lock = path, threading.RLock()
        self._place = os.stat(path).st_ino
        mode = "rw" if os.access(path, os.W_OK) else "ro"
        uri = f"{pathlib.Path(path).as_uri()}?mode={mode}"
        with self.errors():
            self.sql = sqlite3.connect(
                uri, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False
            )
            for pragma in ("synchronous = NORMAL", "secure_delete = ON", "temp_store = MEMORY"):
                self.sql.execute(f"PRAGMA {pragma}")
            check = "integrity_check" if thorough else "quick_check"
            found = self.sql.execute(f"PRAGMA {check}(1)").fetchone()[0]
            schema = self.sql.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
            if found != "ok" or {sql for (sql,) in schema} != set(SCHEMA):
                raise sqlite3.DatabaseError(found)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """One thread at a time; what SQLite raises becomes one line."""
        with self._lock:
            try:
                yield
            except UsageError:
                raise
            except sqlite3.OperationalError as err:
                raise UsageError(
                    f"{self._path}: the gallery cannot be read or written ({reason(err)}). "
                    "Nothing that was written is lost: run the same again"
                ) from err
            except (sqlite3.DatabaseError, ValueError, TypeError, AttributeError) as err:
                raise self.damaged(reason(err)) from err  # a value of another type, for one

    def damaged(self, what: str) -> UsageError:
        """The error to raise for a damaged file."""
        return UsageError(
            f"{self._path} is damaged ({what}): put a copy in its place, or move it away and index "
            "again; then pictures that were forgotten are found again"
        )

    @contextlib.contextmanager
    def change(self) -> Iterator[State]:
        """One transaction; the state that it yields is written at the end."""
        with self.errors():
            self.sql.execute("BEGIN IMMEDIATE")
            try:
                state = self.state()
                yield state
                state.changes += 1
                self.note("state", dataclasses.asdict(state))
                self.sql.execute("COMMIT")
            finally:
                if self.sql.in_transaction:
                    self.sql.execute("ROLLBACK")

    @contextlib.contextmanager
    def moment(self) -> Iterator[State]:
        """Reads of one state, whatever another process writes meanwhile."""
        with self.errors():
            inside = self.sql.in_transaction
            if not inside:
                self.sql.execute("BEGIN")
            try:
                yield self.state()
            finally:
                if not inside and self.sql.in_transaction:
                    self.sql.execute("ROLLBACK")

    def text(self, name: str) -> dict:
        """What `write` wrote."""
        command = "SELECT value, crc FROM meta WHERE name = ?"
        with self.errors():
            row = self.sql.execute(command, (name,)).fetchone()
            if row is None or zlib.crc32(row[0].encode()) != row[1]:
                raise self.damaged(f"its {name}")
            return json.loads(row[0])

    def note(self, name: str, value: dict) -> None:
        """Writes one of the named texts within `change`."""
        _write(self.sql, name, value)

    def state(self) -> State:
        """The state as it is now; raises UsageError where the file was moved or replaced."""
        try:
            same = os.stat(self._path).st_ino == self._place
        except OSError:
            same = False
        if not same:
            raise UsageError(f"{self._path} was moved or replaced while it was open: start again")
        return State(**self.text("state"))

    def clear(self) -> None:
        """Writes the file anew, without what was deleted."""
        with self.errors():
            # Rows that once moved within a page leave copies there, which deleting does not zero.
            self.sql.execute("VACUUM")
            self._empty_log()
            if self.state().unfinished:
                with self.change() as state:
                    state.unfinished = False
                self._empty_log()

    def _empty_log(self) -> None:
        busy, *_ = self.sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise UsageError(
                f"{self._path}: what was removed is still in its log, since another process reads "
                "it: run the same again"
            )

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self.sql.close()
