"""The story of an index: new, changed, moved, deleted, copied, boxed and unreadable pictures."""

import json
import os
import shutil

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.gallery import boxes as boxes_lib
from cada_jax.gallery import records
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.index_options import STAGES, IndexOptions
from cada_jax.gallery.indexing import FEW_GONE, index
from cada_jax.gallery.place import MARKER
from cada_jax.retrieval.query import Where
from tests.gallery.tiny import (
    held_by,
    picture,
    picture_bytes,
    snapshot,
    tiny_retriever,
    write_pictures,
)


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
        return index(db, images or [photos], retriever, IndexOptions(**options))

    return call


@pytest.fixture
def found(tmp_path, retriever):
    """A function: the state of `db`, {path and box: (record, vector, tokens)}."""
    return lambda db=tmp_path / "db": snapshot(db, retriever)


def counts(report):
    names = ("new", "changed", "moved", "unchanged", "removed")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def alone(retriever, *numbers):
    """Vectors of pictures as the network gives them without any gallery."""
    return retriever.encode_images([picture(n) for n in numbers])


def test_every_picture_is_indexed_with_the_vector_and_tokens_of_the_network(
    run, found, photos, retriever
):
    report = run()
    assert counts(report) == {"new": 4} and report.encoded == report.pictures == 4
    encoded = alone(retriever, 0, 1, 2, 3)
    for n, name in enumerate(["a.png", "b.png", "in/c.png", "in/d.png"]):
        record, vector, tokens = found()[str(photos / name), None]
        assert record.path == str(photos / name) and (record.width, record.height) == (24, 40)
        np.testing.assert_allclose(vector, encoded.embeddings[n], atol=1e-6)
        np.testing.assert_allclose(tokens, encoded.tokens[n], rtol=2**-7, atol=1e-6)


def test_the_nearest_picture_of_a_vector_is_itself(run, photos, retriever, tmp_path):
    run()
    with Gallery.open(tmp_path / "db", retriever) as gallery:
        assert len(gallery) == 4
        near = gallery.nearest(alone(retriever, 2, 0).embeddings, 2, Where())
        assert [line[0].picture.path for line in near] == [
            str(photos / "in/c.png"),
            str(photos / "a.png"),
        ]
        assert near[0][0].similarity == pytest.approx(1, abs=1e-5)
        assert gallery.summary()["pictures"] == 4


def test_a_second_run_reads_nothing(run, found):
    run()
    before = found()
    report = run()
    assert counts(report) == {"unchanged": 4} and report.encoded == 0
    assert held_by(found()) == held_by(before)


def test_new_changed_and_deleted_files_are_told_apart(run, found, photos, retriever):
    run()
    write_pictures(photos, {"e.png": 9, "b.png": 10})
    (photos / "a.png").unlink()
    report = run()
    assert counts(report) == {"new": 1, "changed": 1, "unchanged": 2, "removed": 1}
    now = found()
    assert {os.path.basename(path) for path, _ in now} == {"b.png", "c.png", "d.png", "e.png"}
    vector = now[str(photos / "b.png"), None][1]
    np.testing.assert_allclose(vector, alone(retriever, 10).embeddings[0], atol=1e-6)


def test_a_moved_file_keeps_its_vector_and_is_not_encoded(run, found, photos):
    run()
    before = found()
    (photos / "a.png").rename(photos / "in/z.png")
    report = run()
    assert counts(report) == {"moved": 1, "unchanged": 3, "removed": 1} and not report.encoded
    moved, old = found()[str(photos / "in/z.png"), None], before[str(photos / "a.png"), None]
    assert np.array_equal(moved[1], old[1]) and np.array_equal(moved[2], old[2])
    assert (str(photos / "a.png"), None) not in found()


def test_a_new_file_at_the_old_path_of_a_moved_one_is_not_mixed_up(run, found, photos, retriever):
    run()
    (photos / "a.png").rename(photos / "z.png")
    write_pictures(photos, {"a.png": 20})
    run()
    encoded = alone(retriever, 0, 20).embeddings
    np.testing.assert_allclose(found()[str(photos / "z.png"), None][1], encoded[0], atol=1e-6)
    np.testing.assert_allclose(found()[str(photos / "a.png"), None][1], encoded[1], atol=1e-6)


def test_two_files_that_swap_names_swap_vectors(run, found, photos):
    run()
    before = found()
    (photos / "a.png").rename(photos / "t.png")
    (photos / "b.png").rename(photos / "a.png")
    (photos / "t.png").rename(photos / "b.png")
    assert run().encoded == 0
    for here, there in (("a.png", "b.png"), ("b.png", "a.png")):
        now, old = found()[str(photos / here), None], before[str(photos / there), None]
        assert np.array_equal(now[1], old[1]) and np.array_equal(now[2], old[2])
        assert now[0].content == old[0].content


def test_a_touched_file_is_not_encoded_and_its_time_is_noted(run, found, photos):
    run()
    os.utime(photos / "a.png", (1, 2))
    report = run()
    assert counts(report) == {"unchanged": 4} and not report.encoded
    record = found()[str(photos / "a.png"), None][0]
    assert record.taken == 2 and record.modified_ns == 2_000_000_000
    assert counts(run()) == {"unchanged": 4}


def test_a_copy_shares_the_tokens_until_the_last_one_goes(run, found, photos, tmp_path):
    run()
    shutil.copy(photos / "a.png", photos / "copy.png")
    assert counts(run()) == {"moved": 1, "unchanged": 4}
    (photos / "a.png").unlink()
    run()
    assert (str(photos / "copy.png"), None) in found()
    assert len(list((tmp_path / "db/tokens").rglob("*/*"))) == 4
    (photos / "copy.png").unlink()
    run()
    assert len(list((tmp_path / "db/tokens").rglob("*/*"))) == 3


def test_a_renamed_folder_is_moved_without_encoding(run, found, photos):
    write_pictures(photos, {f"many/{n}.png": 100 + n for n in range(30)})
    run()
    (photos / "many").rename(photos / "renamed")
    report = run()
    assert counts(report) == {"moved": 30, "unchanged": 4, "removed": 30} and not report.encoded
    assert len(found()) == 34


def test_a_gallery_whose_folder_is_moved_or_copied_takes_its_tokens_along(
    run, found, photos, tmp_path
):
    run()
    before = held_by(found())
    shutil.copytree(tmp_path / "db", tmp_path / "copy")
    for path in [*photos.glob("*.png"), *photos.glob("in/*.png")][1:]:
        path.unlink()
    run(db=tmp_path / "copy")
    (tmp_path / "db").rename(tmp_path / "moved")
    assert held_by(found(tmp_path / "moved")) == before
    assert len(found(tmp_path / "copy")) == 1


def test_other_folders_are_left_alone(run, found, photos, tmp_path):
    run()
    write_pictures(tmp_path / "more", ["a.png"])
    assert counts(run([tmp_path / "more"])) == {"moved": 1}
    assert len(found()) == 5
    assert counts(run([photos / "in"])) == {"unchanged": 2}


def test_unreadable_files_are_listed_with_the_reason_and_skipped(run, photos, tmp_path):
    (photos / "text.jpg").write_bytes(b"<html>")
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "cut.jpg").write_bytes(picture_bytes(1, "JPEG")[:500])
    report = run()
    reasons = {os.path.basename(p.path): p.reason for p in report.unreadable}
    assert report.pictures == 4 and set(reasons) == {"text.jpg", "empty.jpg", "cut.jpg"}
    assert "web page" in reasons["text.jpg"] and "is empty" in reasons["empty.jpg"]
    lines = (tmp_path / "db/unreadable.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [p._asdict() for p in report.unreadable]
    for path in photos.glob("*.jpg"):
        path.unlink()
    assert not run().unreadable and not (tmp_path / "db/unreadable.jsonl").read_text()


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_a_picture_that_becomes_unreadable_is_found_no_more(run, found, photos, data):
    run()
    (photos / "a.png").write_bytes(data)
    report = run()
    assert len(report.unreadable) == 1 and report.pictures == 3
    assert (str(photos / "a.png"), None) not in found()


def test_a_broken_link_keeps_what_was_indexed(run, photos, tmp_path):
    outside = tmp_path / "drive"
    write_pictures(outside, ["x.png"])
    (photos / "x.png").symlink_to(outside / "x.png")
    write_pictures(outside, {"x.png": 50})
    assert counts(run()) == {"new": 5}
    (outside / "x.png").rename(outside / "y.png")
    report = run()
    assert report.pictures == 5 and len(report.unreadable) == 1


def test_a_root_that_vanished_is_refused_and_nothing_is_removed(run, found, photos):
    run()
    photos.rename(photos.with_name("unmounted"))
    with pytest.raises(MissingFileError, match="is not mounted"):
        run()
    assert len(found()) == 4


def test_more_than_half_missing_is_kept_unless_it_is_asked_for(run, found, photos):
    many = [f"many/{n}.png" for n in range(FEW_GONE + 10)]
    write_pictures(photos, {name: 100 + n for n, name in enumerate(many)})
    run()
    shutil.rmtree(photos / "many")
    report = run()
    assert report.kept_missing == len(many) and not report.removed and len(found()) == 34
    report = run(remove_missing=True)
    assert report.removed == len(many) and len(found()) == 4


def test_another_model_is_refused_unless_the_gallery_is_made_anew(run, found, retriever, tmp_path):
    run()
    before = found()
    other = tiny_retriever(1)
    with pytest.raises(UsageError, match="cannot be compared. Give that model, or .*--reindex"):
        run(retriever=other)
    assert held_by(found()) == held_by(before)
    with pytest.raises(UsageError, match="cannot be compared"):
        Gallery.open(tmp_path / "db", other)
    assert counts(run(retriever=other, reindex=True)) == {"new": 4}
    after = snapshot(tmp_path / "db", other)
    assert set(after) == set(before)
    assert all(not np.allclose(after[key][1], before[key][1]) for key in after)


def test_tokens_computed_again_are_those_stored_up_to_bfloat16(run, found, tmp_path, retriever):
    run()
    run(db=tmp_path / "again", tokens="recompute")
    stored, again = found(), found(tmp_path / "again")
    assert not (tmp_path / "again/tokens").exists() and set(stored) == set(again)
    for key in stored:
        np.testing.assert_allclose(stored[key][2], again[key][2], rtol=2**-8, atol=1e-6)


def test_pictures_whose_file_changed_are_left_out_where_tokens_are_computed_again(
    run, photos, tmp_path, retriever
):
    run(tokens="recompute")
    (photos / "a.png").unlink()
    write_pictures(photos, {"b.png": 77})
    with Gallery.open(tmp_path / "db", retriever) as gallery:
        near = gallery.nearest(alone(retriever, 0).embeddings, 4, Where())[0]
        assert {os.path.basename(n.picture.path) for n in near} == {"c.png", "d.png"}
        id = records.picture_id(str(photos / "b.png"), None)
        with pytest.raises(UsageError, match="was changed after indexing"):
            gallery.tokens_of([gallery.picture(id)])


@pytest.mark.parametrize(
    ("option", "value"), [("tokens", "recompute"), ("vector_index", "HNSW"), ("token_store", "/t")]
)
def test_what_a_gallery_was_made_with_cannot_be_changed_in_silence(run, found, option, value):
    run()
    before = held_by(found())
    with pytest.raises(UsageError, match=rf"--{option}={value}.*--reindex"):
        run(**{option: value})
    assert held_by(found()) == before


def test_naming_what_a_gallery_was_made_with_changes_nothing(run):
    run(tokens="recompute", vector_index="HNSW")
    assert counts(run(tokens="recompute", vector_index="HNSW")) == {"unchanged": 4}
    assert counts(run()) == {"unchanged": 4}


def test_a_foreign_folder_is_refused_and_untouched(run, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/a.tex").write_text("x")
    with pytest.raises(UsageError, match="Nothing was touched"):
        run(db=tmp_path / "thesis")
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["a.tex"]


def test_a_newer_format_is_refused_and_untouched(run, tmp_path):
    run()
    (tmp_path / "db" / MARKER).write_text('{"format": 2}')
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "db").rglob("*")}
    for reindex in (False, True):
        with pytest.raises(UsageError, match="format 2, and this version reads 1"):
            run(reindex=reindex)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "db").rglob("*")}


class TestBoxes:
    BOXES = ([0, 0, 12, 20], [10, 5, 12, 30])

    @pytest.fixture
    def boxes(self, tmp_path):
        """A function: {name: boxes} -> as `--boxes` reads them."""

        def read(by_name):
            entries = [
                {"image_id": name, "bbox": box, "score": 0.5, "category_id": 1}
                for name, listed in by_name.items()
                for box in listed
            ]
            (tmp_path / "boxes.json").write_text(json.dumps(entries))
            return boxes_lib.read_boxes(str(tmp_path / "boxes.json"))

        return read

    def test_every_box_is_a_picture_with_its_place(self, run, found, photos, boxes, retriever):
        report = run(boxes=boxes({"a.png": self.BOXES, "in/c.png": self.BOXES[:1]}))
        assert counts(report) == {"new": 2} and report.pictures == report.encoded == 3
        record, vector, _ = found()[str(photos / "a.png"), (10.0, 5.0, 12.0, 30.0)]
        assert record.box_score == 0.5 and (record.width, record.height) == (24, 40)
        crop = np.asarray(picture(0))[5:35, 10:22]
        expected = retriever.encode_images([crop]).embeddings[0]
        np.testing.assert_allclose(vector, expected, atol=1e-6)

    def test_boxes_that_are_added_and_changed_are_encoded_alone(self, run, found, boxes):
        run(boxes=boxes({"a.png": self.BOXES[:1]}))
        report = run(boxes=boxes({"a.png": self.BOXES}))
        assert counts(report) == {"changed": 1} and report.pictures == 2
        run(boxes=boxes({"a.png": [self.BOXES[1], [1, 1, 10, 10]]}))
        assert {key[1] for key in found()} == {(10.0, 5.0, 12.0, 30.0), (1.0, 1.0, 10.0, 10.0)}

    def test_a_name_of_two_pictures_is_refused_before_anything_is_made(
        self, run, photos, boxes, tmp_path
    ):
        write_pictures(photos, ["in/a.png"])
        with pytest.raises(UsageError, match="fits two pictures"):
            run(boxes=boxes({"a.png": self.BOXES}))
        assert not (tmp_path / "db").exists()

    def test_boxes_are_kept_when_none_are_given(self, run, found, boxes, photos):
        run(boxes=boxes({"a.png": self.BOXES}))
        report = run()
        assert report.new == 3 and report.unchanged == 1
        assert len([key for key in found() if key[0] == str(photos / "a.png")]) == 2

    def test_a_file_whose_boxes_are_gone_is_found_no_more(self, run, found, boxes):
        run(boxes=boxes({"a.png": self.BOXES, "b.png": self.BOXES}))
        run(boxes=boxes({"b.png": self.BOXES}))
        assert {os.path.basename(key[0]) for key in found()} == {"b.png"}

    def test_a_box_outside_is_listed_and_the_others_are_indexed(self, run, found, boxes):
        report = run(boxes=boxes({"a.png": [*self.BOXES, [20, 0, 90, 90], [500, 0, 90, 90]]}))
        assert report.pictures == 2
        assert (
            len(report.unreadable) == 2 and "expected at least 8 x 8" in report.unreadable[0].reason
        )

    def test_a_scene_that_was_indexed_whole_becomes_boxes(self, run, found, boxes):
        run()
        run(boxes=boxes({"a.png": self.BOXES}))
        assert {key[1] for key in found()} == {tuple(map(float, box)) for box in self.BOXES}


class _Stop(Exception):
    pass


def _changes(photos):
    """New, changed, moved, swapped and deleted files at once."""
    (photos / "a.png").rename(photos / "moved.png")
    write_pictures(photos, {"a.png": 31, "b.png": 32, "new.png": 33, "in/e.png": 34})
    (photos / "in/d.png").unlink()
    write_pictures(photos / "in", {"twin.png": 33})


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_cut_off_and_repeated_gives_what_an_undisturbed_one_gives(
    run, found, photos, tmp_path, stage, call
):
    run()
    shutil.copytree(tmp_path / "db", tmp_path / "undisturbed")
    _changes(photos)
    calls = []

    def after(reached):
        calls.append(reached)
        if calls.count(stage) == call + 1 and reached == stage:
            raise _Stop

    if call == 0:
        with pytest.raises(_Stop):
            run(after=after)
    else:  # a stage that comes once only
        try:
            run(after=after)
        except _Stop:
            assert calls.count(stage) == 2
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


PARTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
PATHS = st.lists(PARTS | st.sampled_from("ab"), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)


@hypothesis.settings(max_examples=10)
@hypothesis.given(paths=st.lists(PATHS, min_size=1, max_size=12), data=st.data())
def test_a_folder_finds_what_lies_below_it_and_nothing_else(searched, paths, data):
    from cada_jax.retrieval.searchable import Picture

    made = {}
    for n, path in enumerate(dict.fromkeys(paths)):
        row = {"taken": n - 3.5e-7, "camera": path[1:4], "content": "0" * 64}
        made[path] = Picture(records.picture_id(path, None), path, **row)
    searched.remove([row["id"] for row in searched.rows(["id"])])
    searched.add([records.to_row(p, np.eye(16)[0]) for p in made.values()])
    parents = {path[: i + 1] for path in made for i, c in enumerate(path + "/") if c == "/"}
    folder = data.draw(st.sampled_from(sorted(parents | set(made))) | PATHS)
    camera = data.draw(st.sampled_from(sorted(path[1:4] for path in made)) | st.just(""))
    since = data.draw(st.none() | st.floats(-4, 14))
    until = since + 3 if since is not None else None
    where = Where(folder, since, until, camera)
    hits = searched.search(np.eye(16)[:1], 100, records.expression(where), records.FIELDS)[0]
    expected = {
        path
        for path, p in made.items()
        if path.startswith(folder.rstrip("/") + "/")
        and (since is None or since <= p.taken < until)
        and (not camera or p.camera == camera)
    }
    assert {records.from_row(row) for _, row in hits} == {made[path] for path in expected}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Vectors in a database without a gallery."""
    from cada_jax.gallery.place import place_of
    from cada_jax.gallery.vectors import Vectors

    folder = tmp_path_factory.mktemp("vectors")
    vectors = Vectors(place_of(folder))
    vectors.create(16)
    vectors.load()
    yield vectors
    vectors.close()
