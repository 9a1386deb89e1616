"""Runs that are cut off: the next one ends what they began, to the bit."""

import shutil

import pytest

from cada_jax.gallery.index_options import STAGES
from tests.gallery.tiny import counts, held_by, write_pictures


class _Stop(Exception):
    pass


def _changes(photos):
    """New, changed, moved, swapped and deleted files at once."""
    (photos / "a.png").rename(photos / "moved.png")
    write_pictures(photos, {"a.png": 31, "b.png": 32, "new.png": 33, "in/e.png": 34})
    (photos / "in/d.png").unlink()
    write_pictures(photos / "in", {"twin.png": 33})


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_cut_off_and_repeated_gives_what_an_undisturbed_one_gives(
    run, found, photos, tmp_path, stage
):
    run()
    shutil.copytree(tmp_path / "db", tmp_path / "undisturbed")
    _changes(photos)

    def after(reached):
        if reached == stage:
            raise _Stop

    with pytest.raises(_Stop):
        run(after=after)
    run()
    run(db=tmp_path / "undisturbed")
    assert held_by(found()) == held_by(found(tmp_path / "undisturbed"))
    assert len(list((tmp_path / "db/tokens").rglob("*/*"))) == 6


def test_the_first_run_that_is_cut_off_is_continued(run, found, photos, tmp_path):
    def after(stage):
        if stage == "tokens":
            raise _Stop

    with pytest.raises(_Stop):
        run(after=after)
    assert counts(run()) == {"new": 4}
    run(db=tmp_path / "undisturbed")
    assert held_by(found()) == held_by(found(tmp_path / "undisturbed"))


@pytest.mark.parametrize("name", ["pictures", "pictures_state"])
def test_a_collection_whose_making_was_killed_is_made_again(run, found, tmp_path, name):
    from cada_jax.gallery import tables
    from cada_jax.gallery.place import make_folder, place_of
    from cada_jax.gallery.vectors import Vectors

    make_folder(tmp_path / "db")
    vectors = Vectors(place_of(tmp_path / "db"))
    if name == "pictures":
        tables.create_state(vectors.client, "pictures_state")
        tables.create_pictures(vectors.client, name, 16)
    else:
        tables.create_state(vectors.client, name)
    vectors.client.release_collection(name)
    vectors.client.drop_index(name, "vector" if name == "pictures" else "unused")
    assert not vectors.client.list_indexes(name)
    vectors.close()
    assert counts(run()) == {"new": 4} and len(found()) == 4
