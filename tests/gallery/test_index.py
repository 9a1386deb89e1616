"""The story of an index: new, changed, moved, deleted, copied and unreadable pictures."""

import json
import os
import shutil

import numpy as np
import pytest

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.gallery import records
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.indexing import FEW_GONE
from cada_jax.gallery.place import MARKER
from cada_jax.retrieval.query import Where
from tests.gallery.tiny import (
    alone,
    counts,
    held_by,
    picture_bytes,
    snapshot,
    tiny_retriever,
    write_pictures,
)


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
