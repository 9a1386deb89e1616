"""`index` and `forget` killed between any two writes and run again end as undisturbed ones."""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys

import pytest

from cada_jax.gallery.forget import chosen, forget_pictures
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.index import IndexOptions, index_pictures
from cada_jax.gallery.store import database, tokens
from tests.conftest import REPOSITORY
from tests.gallery.tiny import held_by, snapshot, tiny_retriever, write_pictures

KILLS = int(os.environ.get("CADA_TEST_KILLS", "5"))  # of each command, by a signal


def write_before(photos: pathlib.Path) -> None:
    """What is indexed undisturbed."""
    write_pictures(photos, {f"{n}.png": n for n in range(12)})
    write_pictures(photos / "John Doe", {f"{n}.png": 20 + n for n in range(5)})


def change(photos: pathlib.Path) -> None:
    """New, changed, moved, swapped, copied and deleted files."""
    write_pictures(photos, {"0.png": 50, "new.png": 51, "twin.png": 51, "in/other.png": 52})
    (photos / "1.png").rename(photos / "moved.png")
    (photos / "2.png").rename(photos / "t.png")
    (photos / "3.png").rename(photos / "2.png")
    (photos / "t.png").rename(photos / "3.png")
    (photos / "4.png").unlink()
    shutil.copy(photos / "5.png", photos / "copy.png")


def index(db, photos) -> None:
    index_pictures(db, [photos], tiny_retriever(), IndexOptions())


def forget(db, photos) -> None:
    """Forgets a folder, unless a killed run has done so already."""
    with Gallery.open(db, read_only=False) as gallery:
        if any("John Doe" in picture.folder for picture in gallery.pictures()):
            forget_pictures(gallery, chosen(gallery, folder=str(photos / "John Doe")))


WORK = {"index": index, "forget": forget}


def every_write(monkeypatch, call) -> None:
    """Has `call()` called before each statement and each write of tokens."""
    connect, write = database.sqlite3.connect, tokens.TokenFile._write_at

    def connected(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(lambda statement: call())
        return connection

    def written(*arguments):
        call()
        write(*arguments)

    monkeypatch.setattr(database.sqlite3, "connect", connected)
    monkeypatch.setattr(tokens.TokenFile, "_write_at", written)


@pytest.fixture
def place(tmp_path):
    """A function: name of the work -> (its undisturbed end, photos, the gallery before it)."""
    photos, db = tmp_path / "photos", tmp_path / "base" / "db"

    def make(work):
        write_before(photos)
        index(db, photos)
        if work == "index":
            change(photos)
        shutil.copytree(tmp_path / "base", tmp_path / "undisturbed")
        WORK[work](tmp_path / "undisturbed" / "db", photos)
        return held_by(snapshot(tmp_path / "undisturbed/db", tiny_retriever())), photos, db

    return make


def check(work: str, db: pathlib.Path, photos: pathlib.Path, expected: dict) -> None:
    """Runs a killed command again: the rows are the expected ones, and the files hold no trace."""
    WORK[work](db, photos)
    assert held_by(snapshot(db, tiny_retriever())) == expected
    if work == "forget":
        data = b"".join(path.read_bytes() for path in db.parent.iterdir())
        assert b"John Doe" not in data


@pytest.mark.parametrize("work", WORK)
def test_cut_off_before_any_write_and_run_again(place, tmp_path, monkeypatch, work):
    """The files as they are before a write are those that a kill at that moment leaves."""
    expected, photos, db = place(work)
    running, copies = tmp_path / "running", []
    shutil.copytree(db.parent, running)

    def copy():
        copies.append(tmp_path / f"killed{len(copies)}")
        shutil.copytree(running, copies[-1])

    with monkeypatch.context() as patched:
        every_write(patched, copy)
        WORK[work](running / "db", photos)
    assert len(copies) >= 50
    for killed in copies[:: max(1, len(copies) // 50)]:
        check(work, killed / "db", photos, expected)


_CHILD = """
import os, pathlib, signal, sys
import pytest
from tests.gallery.test_killed import WORK, every_write
work, db, photos, left = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), [int(sys.argv[4])]
def call():
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
with pytest.MonkeyPatch.context() as patched:
    every_write(patched, call)
    WORK[work](db, photos)
print(left[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_killed_by_a_signal_before_any_write_and_run_again(place, tmp_path, work):
    expected, photos, db = place(work)

    def child(left):
        shutil.copytree(db.parent, tmp_path / f"killed{left}")
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", _CHILD, work, tmp_path / f"killed{left}/db", photos]
        return subprocess.run(
            [*map(str, command), str(left)], env=environment, stdout=subprocess.PIPE, text=True
        )

    writes = 10**6 - int(child(10**6).stdout)
    assert writes >= 50
    moments = random.Random(0).sample(range(1, writes + 1), min(KILLS, writes))
    for left in moments:
        assert child(left).returncode == -signal.SIGKILL
        check(work, tmp_path / f"killed{left}/db", photos, expected)
    print(f"\n{work}: killed before {len(moments)} of {writes} writes")
