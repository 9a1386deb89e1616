"""A small gallery to index: four pictures, two of them in a sub-folder."""

import pytest

from cada_jax.gallery.index import IndexOptions, index_pictures
from tests.gallery.tiny import snapshot, tiny_retriever, write_pictures


@pytest.fixture(scope="module")
def retriever():
    return tiny_retriever()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    write_pictures(folder, ["a.png", "b.png", "in/c.png", "in/d.png"])
    return folder


@pytest.fixture
def run(tmp_path, photos, retriever):
    """A function: options -> the report of indexing `photos` into `db`."""

    def call(images=None, retriever=retriever, db=tmp_path / "db", **options):
        return index_pictures(db, images or [photos], retriever, IndexOptions(**options))

    return call


@pytest.fixture
def found(tmp_path, retriever):
    """A function: the state of `db`, {path and box: (record, vector, tokens)}."""
    return lambda db=tmp_path / "db": snapshot(db, retriever)
