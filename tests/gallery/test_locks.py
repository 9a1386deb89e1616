"""One process at a time in a local gallery; the other is told which one holds it."""

import os
import re

import pytest

from cada_jax.common.errors import UsageError
from cada_jax.gallery.commands import forget as forget_command
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.index_options import IndexOptions
from cada_jax.gallery.indexing import index
from tests.gallery.processes import holder
from tests.gallery.tiny import snapshot, tiny_retriever, write_pictures


@pytest.fixture(scope="module")
def retriever():
    return tiny_retriever()


@pytest.fixture
def photos(tmp_path):
    write_pictures(tmp_path / "photos", ["a.png", "b.png"])
    return tmp_path / "photos"


@pytest.fixture
def db(tmp_path, photos, retriever):
    index(tmp_path / "db", [photos], retriever, IndexOptions())
    return tmp_path / "db"


def test_the_second_process_is_refused_and_told_who_holds_it_until_that_is_killed(
    db, photos, retriever, capsys
):
    write_pictures(photos, {"c.png": 5})
    with holder(db, "reads") as process:
        says = f"in use by process {process.pid} on .*serves one process at a time"
        with pytest.raises(UsageError, match=says):
            index(db, [photos], retriever, IndexOptions())
        with pytest.raises(UsageError, match=says):
            Gallery.open(db)
        assert forget_command.main([f"--db={db}", f"--folder={photos}", "--yes"]) == 2
        out, err = capsys.readouterr()
        assert not out and len(err.splitlines()) == 1 and re.search(says, err)
    assert index(db, [photos], retriever, IndexOptions()).pictures == 3
    assert len(snapshot(db, retriever)) == 3


def test_an_error_lets_go_of_the_gallery(db, photos):
    with pytest.raises(UsageError, match="cannot be compared"):
        Gallery.open(db, tiny_retriever(1))
    with pytest.raises(UsageError, match="cannot be compared"):
        index(db, [photos], tiny_retriever(1), IndexOptions())
    with holder(db, "writes") as process:
        assert process.pid != os.getpid()


def test_two_users_in_one_process_do_not_close_each_others_gallery(db):
    first, second = Gallery.open(db), Gallery.open(db)
    first.close()
    assert len(second) == 2
    second.close()
    with Gallery.open(db) as again:
        assert len(again) == 2
