"""A gallery's file: any order of changes, kills and damage gives the right rows or one error."""

import dataclasses
import hashlib
import os
import shutil

import hypothesis
import hypothesis.strategies as st
import jax
import ml_dtypes
import numpy as np
import pytest

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.distributed.mesh import make_mesh
from cada_jax.gallery.store import Encoded, Meta, database
from cada_jax.gallery.store.sqlite import SqliteStore
from cada_jax.gallery.store.tokens import TokenFile
from cada_jax.retrieval.filter import Filter
from cada_jax.retrieval.searchable import Picture
from tests.conftest import tiny_config_of_steps

WIDTH, SHAPE = 8, (3, 4)
META = Meta("m" * 64, "models/m", WIDTH, (32, 16), "store")
FOLDERS = ("/a", "/a/b", "/ab", "/c d")
MESH = make_mesh(tiny_config_of_steps().mesh, jax.devices()[:1])


def create(path: str, meta: Meta) -> None:
    database.create(path, dataclasses.asdict(meta))


FILES = ("db", "db-wal", "db.tokens")


def picture(number: int, version: int = 0) -> Picture:
    """Picture `number`; another version has other pixels and another time."""
    return Picture(
        f"{number:032x}",
        f"{FOLDERS[number % 4]}/{number:04d}é'\"\n%.jpg",
        hashlib.sha256(f"{number} {version}".encode()).hexdigest(),
        taken=number / 3 - 4 + version,
        camera=("", "Nikon", 'x" OR 1=1')[number % 3],
        box=(0.1, 2.0, 3.5, 1e300) if number % 2 else None,
        box_score=0.25 if number % 4 == 1 else None,
    )


def numbers(picture: Picture) -> np.random.Generator:
    return np.random.default_rng(int(picture.content, 16))


def vector(picture: Picture) -> np.ndarray:
    found = numbers(picture).normal(size=WIDTH).astype(np.float32)
    return found / np.linalg.norm(found)


def tokens(picture: Picture) -> np.ndarray:
    return numbers(picture).normal(size=SHAPE).astype(ml_dtypes.bfloat16)


def put(store, pictures, remove=()):
    store.put([(p, Encoded(vector(p), tokens(p))) for p in pictures], remove)


def check(store, expected: dict, forgotten: set) -> None:
    """A store holds these pictures, {id: picture}, to the bit, and finds what a loop would."""
    assert store.rows() == expected and len(store) == len(expected)
    assert store.forgotten() == forgotten
    encoded = store.encoded(expected)
    assert {id: e.vector.tobytes() for id, e in encoded.items()} == {
        id: vector(p).tobytes() for id, p in expected.items()
    }
    listed = list(store.rows().values())
    for found, wanted in zip(store.tokens(listed), map(tokens, listed), strict=True):
        assert found.tobytes() == wanted.tobytes()
    filters = [Filter(), Filter(camera="Nikon"), Filter(since=-2.0, until=1.5)]
    there = {p.folder for p in listed}
    filters += [Filter(folder=folder, camera='x" OR 1=1') for folder in sorted(there)]
    query = np.random.default_rng(0).normal(size=(2, WIDTH)).astype(np.float32)
    for filter in filters:
        conditions = filter.conditions(there)
        admitted = [p for p in listed if all(c.holds(getattr(p, c.column)) for c in conditions)]
        for q, line in zip(query, store.nearest(query, 5, filter, MESH), strict=True):
            best = sorted(admitted, key=lambda p: -float(q @ vector(p)))[:5]
            assert [n.picture.id for n in line] == [p.id for p in best]
            assert all(n.similarity == pytest.approx(q @ vector(n.picture), abs=1e-5) for n in line)


NUMBERS = st.lists(st.integers(0, 11), max_size=6, unique=True)
STEPS = st.one_of(
    st.tuples(st.just("put"), NUMBERS, st.integers(0, 2), NUMBERS),
    st.tuples(st.just("forget"), NUMBERS),
    st.tuples(st.just("compact")),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("anew")),
)


def apply(store, step, expected: dict, forgotten: set):
    """Does a step; the pictures and what is forgotten after it."""
    expected, forgotten = dict(expected), set(forgotten)
    match step:
        case "put", new, version, old:
            pictures = [picture(n, version) for n in new]
            removed = [f"{n:032x}" for n in old if n not in new]
            put(store, pictures, removed)
            expected = {id: p for id, p in expected.items() if id not in removed}
            expected |= {p.id: p for p in pictures}
            forgotten -= {p.content for p in pictures}
        case "forget", old:
            gone = [expected.pop(id) for n in old if (id := f"{n:032x}") in expected]
            forgotten |= {p.content for p in gone}
            store.forget([p.id for p in gone], {p.content for p in gone})
        case ("compact",):
            store.compact()
        case ("anew",):
            store.note(META, anew=True)
            expected = {}
    return expected, forgotten


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.lists(STEPS, max_size=8))
def test_any_order_of_changes_gives_the_rows_that_a_dictionary_has(tmp_path_factory, steps):
    path = str(tmp_path_factory.mktemp("store") / "db")
    create(path, META)
    store, reader = SqliteStore(path, writes=True), SqliteStore(path)
    expected: dict = {}
    forgotten: set = set()
    for step in steps:
        if step == ("reopen",):
            store.close()
            store = SqliteStore(path, writes=True)
        before = reader.changes()
        now = apply(store, step, expected, forgotten)
        assert (reader.changes() != before) or now == (expected, forgotten)
        expected, forgotten = now
        check(reader, expected, forgotten)
    store.close()
    reader.close()


@pytest.fixture
def place(tmp_path):
    """A closed gallery of 30 pictures, 6 of them forgotten."""
    folder = tmp_path / "whole"
    folder.mkdir()
    create(str(folder / "db"), META)
    store = SqliteStore(str(folder / "db"), writes=True)
    put(store, [picture(n) for n in range(30)])
    store.forget([f"{n:032x}" for n in range(6)], {picture(n).content for n in range(2)})
    store.compact()
    put(store, [picture(n, 1) for n in range(12, 16)])
    store.close()
    return folder


def read(path: str) -> tuple:
    """All that a gallery holds; a UsageError, or tokens that are None, where it is damaged."""
    store = SqliteStore(path)
    try:
        rows = store.rows()
        found = [store.meta(), rows, store.forgotten(), store.summary()]
        encoded = store.encoded(rows)
        if encoded.keys() != rows.keys():  # then a gallery says that there is no such id
            raise UsageError("an id is not found")
        found.append({id: e.vector.tobytes() for id, e in encoded.items()})
        query = np.eye(WIDTH, dtype=np.float32)[:2]
        for filter in (Filter(), Filter(folder="/a"), Filter(camera="Nikon")):
            found.append(store.nearest(query, 30, filter, MESH))
        read = store.tokens(list(rows.values()))
        return found, [None if one is None else one.tobytes() for one in read]
    finally:
        store.close()


def test_of_a_thousand_damaged_bytes_and_cuts_none_is_silent(place, tmp_path):
    expected, all_tokens = read(str(place / "db"))
    draw = np.random.default_rng(0)
    names = [name for name in FILES if (place / name).exists()]
    assert names == ["db", "db.tokens"]  # a log is left by a kill alone
    noticed = harmless = 0
    (tmp_path / "damaged").mkdir()
    for trial in range(1000):
        for name in names:
            shutil.copy(place / name, tmp_path / "damaged" / name)
        path = tmp_path / "damaged" / names[trial % 2]
        data = bytearray(path.read_bytes())
        at = int(draw.integers(len(data)))
        if trial % 8 < 2:
            del data[at:]
        else:
            data[at] ^= 1 << int(draw.integers(8))
        path.write_bytes(data)
        try:
            found, read_tokens = read(str(tmp_path / "damaged" / "db"))
        except UsageError as err:
            assert "\n" not in str(err)
            noticed += 1
            continue
        assert found == expected, f"{path.name} damaged at {at} was not noticed"
        pairs = list(zip(read_tokens, all_tokens, strict=True))
        assert all(a in (None, b) for a, b in pairs)
        noticed += any(a is None for a, _ in pairs)
        harmless += all(a == b for a, b in pairs)
    print(f"\n{noticed} noticed, {harmless} in bytes that nothing reads")
    assert noticed + harmless == 1000 and noticed > 500


def test_a_damaged_log_of_a_killed_process_loses_its_last_changes_and_mixes_nothing(tmp_path):
    (tmp_path / "db").mkdir()
    path = str(tmp_path / "db/db")
    create(path, META)
    store = SqliteStore(path, writes=True)
    states: list[dict] = [{}]
    for part in range(5):
        put(store, [picture(n, part) for n in range(3 * part, 3 * part + 6)])
        states.append(store.rows())
    shutil.copytree(tmp_path / "db", tmp_path / "killed")  # as a kill leaves it
    store.close()
    log, draw, seen = (tmp_path / "killed/db-wal").read_bytes(), np.random.default_rng(0), set()
    for _ in range(100):
        shutil.rmtree(tmp_path / "damaged", ignore_errors=True)
        shutil.copytree(tmp_path / "killed", tmp_path / "damaged")
        data, at = bytearray(log), int(draw.integers(len(log)))
        data[at] ^= 1 << int(draw.integers(8))
        (tmp_path / "damaged/db-wal").write_bytes(data)
        try:
            (_, rows, *_), _ = read(str(tmp_path / "damaged/db"))
        except UsageError:
            continue
        assert rows in states
        seen.add(states.index(rows))
    assert len(seen) > 2


def test_nothing_of_what_is_forgotten_is_in_any_file(tmp_path):
    path = str(tmp_path / "db")
    create(path, META)
    store, reader = SqliteStore(path, writes=True), SqliteStore(path)
    for part in range(0, 300, 20):
        put(store, [picture(n) for n in range(part, part + 20)])
        put(store, [picture(n, 1) for n in range(part, part + 9)])
    gone = [store.rows()[f"{n:032x}"] for n in range(40, 160)]
    traces = [
        trace
        for p in gone
        for trace in (
            *(p.id.encode(), os.path.basename(p.path).encode(), p.content.encode()),
            *(vector(p).tobytes(), tokens(p).tobytes()),
        )
    ]

    def left():
        data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        return sum(trace in data for trace in traces)

    check(reader, store.rows(), set())
    assert left() == len(traces)
    store.forget([p.id for p in gone], ())
    check(reader, store.rows(), set())
    store.compact()
    assert left() == 0
    store.close()
    reader.close()
    assert left() == 0


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"SQLite format 3\0" + bytes(5000)])
def test_a_file_that_is_no_gallery_is_refused_and_untouched(tmp_path, content):
    (tmp_path / "db").write_bytes(content)
    with pytest.raises(UsageError, match="Nothing was touched"):
        database.exists(str(tmp_path / "db"))
    assert (tmp_path / "db").read_bytes() == content


def test_a_folder_a_pipe_and_nothing_are_told_apart(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, says in (("", "got a folder"), ("pipe", "pipe or device")):
        with pytest.raises(UsageError, match=says):
            database.exists(str(tmp_path / name))
    with pytest.raises(MissingFileError, match="there is no gallery. Make one"):
        SqliteStore(str(tmp_path / "none"))


def test_a_gallery_that_is_moved_or_replaced_while_it_is_open_is_noticed(place, tmp_path):
    store = SqliteStore(str(place / "db"))
    (place / "db").rename(tmp_path / "moved")
    with pytest.raises(UsageError, match="was moved or replaced"):
        store.changes()
    shutil.copy(tmp_path / "moved", place / "db")
    with pytest.raises(UsageError, match="was moved or replaced"):
        store.changes()
    store.close()


def test_tokens_of_another_gallery_or_of_a_cut_file_are_missing(tmp_path):
    path, values = str(tmp_path / "t"), np.ones((3, *SHAPE), np.float32)
    file = TokenFile(path, "a" * 32)
    places = file.write(values)
    assert TokenFile(path, "b" * 32).read(places) == [None] * 3
    assert TokenFile(path, "b" * 32).begin([0, 1]) == {0, 1}
    os.truncate(path, os.path.getsize(path) - 1)
    again = TokenFile(path, "a" * 32)
    assert again.begin([0, 2]) == {2} and again.read(places)[2] is None
    assert [slot for slot, _ in again.write(values)] == [1, 2, 3]
    (tmp_path / "t").write_bytes(b"my thesis")
    with pytest.raises(UsageError, match="Nothing was touched: move it away"):
        TokenFile(path, "a" * 32).write(values)
    assert (tmp_path / "t").read_bytes() == b"my thesis"
