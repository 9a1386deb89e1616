"""The story of an index: new, changed, moved, deleted, copied and unreadable pictures."""

import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.index import IndexOptions, index_pictures
from cada_jax.gallery.photo import GoneError
from cada_jax.retrieval.filter import Filter
from tests.gallery.processes import holder
from tests.gallery.tiny import (
    alone,
    counts,
    held_by,
    id_of,
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


NAMES = st.sampled_from(["a.png", "b.png", "in/c.png", "in/d.png", "e.png", "new/f.png"])
STEPS = st.one_of(
    st.tuples(st.just("write"), NAMES, st.integers(0, 6)),
    st.tuples(st.sampled_from(["move", "swap", "copy"]), NAMES, NAMES),
    st.tuples(st.sampled_from(["delete", "touch"]), NAMES),
)


def change(folder, step, *names):
    """One change that a user may make to their files."""
    first, *others = [folder / name for name in names if isinstance(name, str)]
    if step == "write":
        write_pictures(folder, {names[0]: names[1]})
    elif first.exists() and step == "delete":
        first.unlink()
    elif first.exists() and step == "touch":
        os.utime(first, (1, 2))
    elif first.exists() and others[0] != first:
        others[0].parent.mkdir(exist_ok=True)
        if step == "copy":
            shutil.copy(first, others[0])
        elif step == "swap" and others[0].exists():
            first.rename(folder / "swapped")
            others[0].rename(first)
            (folder / "swapped").rename(others[0])
        else:
            first.rename(others[0])


@settings(max_examples=30)
@given(st.lists(st.lists(STEPS, max_size=5), max_size=3))
def test_whatever_changes_a_gallery_that_is_kept_equals_a_new_one(tmp_path_factory, rounds):
    folder, retriever = tmp_path_factory.mktemp("story"), tiny_retriever()
    write_pictures(folder / "photos", {"a.png": 0, "b.png": 1, "in/c.png": 2, "in/d.png": 3})

    def index(db):
        options = IndexOptions(remove_missing=True)
        return index_pictures(folder / db, [folder / "photos"], retriever, options)

    index("kept")
    for number, steps in enumerate(rounds):
        before = {p.content for p, *_ in snapshot(folder / "kept", retriever).values()}
        for step in steps:
            change(folder / "photos", *step)
        report = index("kept")
        index(f"new{number}")
        kept, new = (snapshot(folder / db, retriever) for db in ("kept", f"new{number}"))
        assert held_by(kept) == held_by(new)
        # What the gallery had under any name is not encoded again.
        assert report.encoded == sum(p.content not in before for p, *_ in kept.values())
        assert counts(index("kept")) == ({"unchanged": len(kept)} if kept else {})


def test_new_changed_moved_and_deleted_files_are_told_apart(run, photos):
    run()
    write_pictures(photos, {"e.png": 9, "b.png": 10})
    (photos / "a.png").unlink()
    (photos / "in/c.png").rename(photos / "z.png")
    report = run()
    assert counts(report) == {"new": 1, "changed": 1, "moved": 1, "unchanged": 1, "removed": 1}
    assert report.encoded == 2 and report.pictures == 4


def test_a_copy_shares_the_tokens_until_the_last_one_goes(run, found, photos, tmp_path, retriever):
    run()
    shutil.copy(photos / "a.png", photos / "copy.png")
    size = (tmp_path / "db.tokens").stat().st_size
    report = run()
    assert counts(report) == {"new": 1, "unchanged": 4} and not report.encoded
    (photos / "a.png").unlink()
    run()
    encoded = alone(retriever, 0)
    np.testing.assert_allclose(
        found()[str(photos / "copy.png"), None][2], encoded.tokens[0], rtol=2**-7, atol=1e-6
    )
    (photos / "copy.png").unlink()
    write_pictures(photos, {"e.png": 9})
    run()
    write_pictures(photos, {"f.png": 10})
    run()
    assert (tmp_path / "db.tokens").stat().st_size == size + 9 * 32 * 2  # one place was free


def test_a_renamed_folder_is_moved_without_encoding(run, found, photos, tmp_path):
    write_pictures(photos, {f"many/{n}.png": 100 + n for n in range(30)})
    run()
    (photos / "many").rename(photos / "renamed")
    report = run()
    assert counts(report) == {"moved": 30, "unchanged": 4} and not report.encoded
    assert len(found()) == 34
    (photos / "renamed").rename(tmp_path / "away")
    report = run([tmp_path / "away"])  # its old place is below no root now
    assert counts(report) == {"moved": 30} and len(found()) == 34


def test_a_copy_of_a_gallery_and_a_moved_one_go_their_own_ways(run, found, photos, tmp_path):
    run()
    before = held_by(found())
    for name in ("db", "db.tokens"):
        shutil.copy(tmp_path / name, tmp_path / name.replace("db", "copy"))
    for path in [*photos.glob("*.png"), *photos.glob("in/*.png")][1:]:
        path.unlink()
    assert counts(run(db=tmp_path / "copy", remove_missing=True)) == {"unchanged": 1, "removed": 3}
    with Gallery.open(tmp_path / "copy", read_only=False) as gallery:
        gallery.store.compact()
    for name in ("db", "db.tokens"):
        (tmp_path / name).rename(tmp_path / name.replace("db", "moved"))
    assert held_by(found(tmp_path / "moved")) == before
    assert len(found(tmp_path / "copy")) == 1


def test_another_spelling_of_a_folder_doubles_nothing(run, found, photos, tmp_path, monkeypatch):
    run()
    (tmp_path / "link").symlink_to(photos)
    report = run([tmp_path / "link"])
    assert counts(report) == {"moved": 4} and not report.encoded
    assert {path.startswith(str(tmp_path / "link")) for path, _ in found()} == {True}
    monkeypatch.chdir(photos / "in")
    assert counts(run([".."])) == {"moved": 4} and len(found()) == 4


def test_other_folders_are_left_alone(run, found, photos, tmp_path):
    run()
    write_pictures(tmp_path / "more", ["a.png"])
    assert counts(run([tmp_path / "more"])) == {"new": 1}
    assert len(found()) == 5
    assert counts(run([photos / "in"])) == {"unchanged": 2}


def test_unreadable_files_are_listed_with_the_reason_and_skipped(run, photos):
    (photos / "text.jpg").write_bytes(b"<html>")
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "cut.jpg").write_bytes(picture_bytes(1, "JPEG")[:500])
    report = run()
    reasons = {os.path.basename(p.path): p.reason for p in report.unreadable}
    assert report.pictures == 4 and set(reasons) == {"text.jpg", "empty.jpg", "cut.jpg"}
    assert "web page" in reasons["text.jpg"] and "is empty" in reasons["empty.jpg"]


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


@pytest.mark.parametrize("gone", [3, 4])
def test_more_than_half_missing_is_kept_unless_it_is_asked_for(run, found, photos, gone):
    run()
    for name in ("a.png", "b.png", "in/c.png", "in/d.png")[:gone]:
        (photos / name).unlink()
    report = run()
    assert (report.missing, report.removed) == (gone, 0) and len(found()) == 4
    report = run(remove_missing=True)
    assert (report.missing, report.removed) == (0, gone) and len(found()) == 4 - gone


def test_a_drive_that_is_not_mounted_leaves_an_empty_folder_and_nothing_goes(run, found, photos):
    run([photos / "in", photos])
    drive = (photos / "in").rename(photos.with_name("drive"))
    (photos / "in").mkdir()
    report = run([photos / "in", photos])
    assert (report.missing, report.removed, len(found())) == (2, 0, 4)
    (photos / "in").rmdir()
    drive.rename(photos / "in")
    assert counts(run([photos / "in", photos])) == {"unchanged": 4}


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
    assert not (tmp_path / "again.tokens").exists() and set(stored) == set(again)
    for key in stored:
        np.testing.assert_allclose(stored[key][2], again[key][2], rtol=2**-8, atol=1e-6)


def test_pictures_whose_file_changed_are_left_out_where_tokens_are_computed_again(
    run, photos, tmp_path, retriever
):
    run(tokens="recompute")
    (photos / "a.png").unlink()
    write_pictures(photos, {"b.png": 77})
    with Gallery.open(tmp_path / "db", retriever) as gallery:
        near = gallery.nearest(alone(retriever, 0).embeddings, 4, Filter())[0]
        assert {os.path.basename(n.picture.path) for n in near} == {"c.png", "d.png"}
        with pytest.raises(GoneError, match="b.png: the file has changed since it was indexed"):
            gallery.tokens_of([gallery.picture(id_of(tmp_path / "db", photos / "b.png"))])


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_read_again(
    run, found, photos, retriever
):
    same = {n: picture_bytes(n, "BMP") for n in (60, 61)}
    (photos / "x.bmp").write_bytes(same[60])
    run()
    before = os.stat(photos / "x.bmp")
    (photos / "x.bmp").write_bytes(same[61])
    os.utime(photos / "x.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert counts(run()) == {"changed": 1, "unchanged": 4}
    vector = found()[str(photos / "x.bmp"), None][1]
    np.testing.assert_allclose(vector, alone(retriever, 61).embeddings[0], atol=1e-6)


def test_what_a_gallery_was_made_with_cannot_be_changed_in_silence(run, found):
    run()
    before = held_by(found())
    with pytest.raises(UsageError, match="--tokens=recompute.*was made with store.*--reindex"):
        run(tokens="recompute")
    with pytest.raises(UsageError, match="--vector_index is of a Milvus server"):
        run(vector_index="HNSW")
    assert held_by(found()) == before
    assert counts(run(tokens="store")) == {"unchanged": 4}


@pytest.mark.parametrize(
    "mistake", [dict(camera_pattern="("), dict(vector_index="HNSW"), dict(images=["/nowhere"])]
)
def test_a_mistake_beside_reindex_costs_nothing(run, found, mistake):
    run()
    before = held_by(found())
    with pytest.raises(UsageError):
        run(reindex=True, **mistake)
    assert held_by(found()) == before


def test_the_model_folder_may_move(run, tmp_path):
    run(model_path="/old/place")
    run(model_path="/new/place")
    with Gallery.open(tmp_path / "db") as gallery:
        assert gallery.summary()["model_path"] == "/new/place"


def test_missing_and_damaged_tokens_are_encoded_again(run, found, tmp_path):
    run()
    before = held_by(found())
    (tmp_path / "db.tokens").unlink()
    report = run()
    assert report.encoded == 4 and held_by(found()) == before
    os.truncate(tmp_path / "db.tokens", 3 * 9 * 32 * 2)
    assert run().encoded == 2 and held_by(found()) == before


def test_damaged_tokens_are_computed_again_and_said(run, found, tmp_path, caplog):
    run()
    before = found()
    data = bytearray((tmp_path / "db.tokens").read_bytes())
    data[100] ^= 1
    (tmp_path / "db.tokens").write_bytes(data)
    for key, (_, _, tokens) in found().items():
        np.testing.assert_allclose(tokens, before[key][2], rtol=2**-7, atol=1e-6)
    assert "1 image tokens are missing or damaged, and computed again" in caplog.text


def test_a_second_process_that_changes_is_told_which_one_does_and_readers_go_on(
    run, photos, tmp_path, retriever
):
    run()
    write_pictures(photos, {"e.png": 5})
    with holder(tmp_path / "db", "writes") as process:
        with pytest.raises(UsageError, match=f"db is in use by process {process.pid} on .*wait"):
            run()
        with Gallery.open(tmp_path / "db", retriever) as gallery:
            assert len(gallery) == 4
    assert counts(run()) == {"new": 1, "unchanged": 4}  # a killed process holds nothing
    with Gallery.open(tmp_path / "db", read_only=False):
        with pytest.raises(UsageError, match="is changed by this process already"):
            run()


def test_a_reader_finds_what_is_indexed_beside_it(run, photos, tmp_path, retriever):
    run()
    with Gallery.open(tmp_path / "db", retriever) as gallery:
        before = gallery.changes()
        write_pictures(photos, {"e.png": 5})
        (photos / "a.png").unlink()
        run()
        assert gallery.changes() != before and gallery.summary()["pictures"] == len(gallery) == 4
        near = gallery.nearest(alone(retriever, 5, 0).embeddings, 9, Filter())
        assert os.path.basename(near[0][0].picture.path) == "e.png"
        assert len(near[1]) == 4 and near[1][0].similarity < 0.999
    with Gallery.open(tmp_path / "db", retriever) as gallery:
        run(retriever=tiny_retriever(1), reindex=True)
        with pytest.raises(UsageError, match="was indexed anew by another model"):
            gallery.nearest(alone(retriever, 5).embeddings, 9, Filter())


def test_a_gallery_among_its_own_pictures_is_none_of_them(run, photos):
    run(db=photos / "db")
    report = run(db=photos / "db")
    assert counts(report) == {"unchanged": 4} and not report.left_out and not report.unreadable


def test_what_is_left_out_is_counted_by_kind(run, photos):
    for name in ("a.mp4", "in/b.MP4", "notes.txt", "README", "@eaDir/a.png", "x/small_1.png"):
        write_pictures(photos, {name: 1})
    report = run(exclude=["small_*"])
    assert report.left_out == {"MP4": 2, "TXT": 1, "": 1} and report.pictures == 4
