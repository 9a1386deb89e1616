"""`cada search` and `Retriever.search` on an index on disk: the same results as in memory."""

import json
import shutil

import pytest

from cada_jax.checkpoints.model import resolve_model
from cada_jax.gallery.commands import search
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.index import IndexOptions
from cada_jax.retrieval.query import Query
from tests.gallery.in_memory import COUNT, load_small_model, make_gallery


@pytest.fixture(scope="module")
def retriever():
    return load_small_model()


@pytest.fixture(scope="module")
def place(retriever, tmp_path_factory):
    """(db, in-memory gallery, captions, copy of the model that the index names)."""
    folder = tmp_path_factory.mktemp("indexed")
    (folder / "photos").mkdir()
    model = shutil.copytree(resolve_model("pretrained:synthetic"), folder / "model")
    gallery, captions = make_gallery(retriever, folder / "photos")
    db = str(folder / "people.db")
    options = IndexOptions(tokens="recompute", model_path=str(model))
    Gallery.index(db, folder / "photos", retriever, options).close()
    return db, gallery, captions, model


def names(hits):
    return [hit.name for hit in hits]


def test_an_index_answers_as_memory_does(retriever, place):
    db, gallery, captions, _ = place
    asked = [
        Query(captions[0]),
        Query((captions[1], captions[2]), rerank=4, k=4),
        Query(captions[3], exclude="a person with a bag"),
        Query(like=gallery.images.names[4], k=3),
        Query(captions[5], rerank=0),
    ]
    with Gallery.open(db, retriever) as indexed:
        for ours, theirs in zip(
            retriever.search(asked, gallery), retriever.search(asked, indexed), strict=True
        ):
            assert names(ours) == names(theirs)
            for a, b in zip(ours, theirs, strict=True):
                assert a.score == pytest.approx(b.score, abs=1e-3) and b.index == -1


def test_the_command_finds_the_model_that_the_index_names(place, capsys):
    db, _, captions, _ = place
    assert search.main([f"--db={db}", captions[0], "--json", "--top_k=1"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["gallery_size"] == COUNT
    assert answer["results"][0]["name"] == "a b.jpg"


def test_a_model_that_was_moved_is_one_line(place, capsys):
    db, _, captions, model = place
    moved = model.rename(model.with_name("moved"))
    try:
        assert search.main([f"--db={db}", captions[0]]) == 2
        err = capsys.readouterr().err
        assert "which is no longer there: expected --model=DIR" in err and err.count("\n") == 1
        assert search.main([f"--db={db}", captions[0], f"--model={moved}"]) == 0
    finally:
        moved.rename(model)


def test_a_gallery_that_is_not_there_is_one_line(tmp_path, capsys):
    assert search.main([f"--db={tmp_path / 'none.db'}", "a man"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "there is no gallery" in err
