"""Pictures are taken out of a gallery so that nothing of them is left."""

import io
import json
import os

import numpy as np
import pytest

from cada_jax.common.errors import UsageError
from cada_jax.gallery import records, tables
from cada_jax.gallery.commands import forget as command
from cada_jax.gallery.forgetting import chosen, forget
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.index_options import IndexOptions
from cada_jax.gallery.indexing import index
from cada_jax.gallery.traces import Trace, find_traces
from tests.gallery.tiny import snapshot, tiny_retriever, write_pictures

NAMES = ["a.png", "b.png", "John Doe/c.png", "John Doe/d.png"]


@pytest.fixture(scope="module")
def retriever():
    return tiny_retriever()


@pytest.fixture
def photos(tmp_path):
    write_pictures(tmp_path / "photos", NAMES)
    return tmp_path / "photos"


@pytest.fixture
def db(tmp_path, photos, retriever):
    index(tmp_path / "db", [photos], retriever, IndexOptions())
    return tmp_path / "db"


@pytest.fixture
def run(db, capsys):
    """A function: flags -> (exit code, stdout, stderr) of `cada forget`."""

    def call(*flags, stdin=""):
        code = command.main([f"--db={db}", *map(str, flags)], io.StringIO(stdin))
        return code, *capsys.readouterr()

    return call


def names(db, retriever):
    return sorted(os.path.basename(path) for path, _ in snapshot(db, retriever))


def trace_of(db, path):
    """What tells of one picture in the database's files."""
    with Gallery.open(db) as gallery:
        id = records.picture_id(str(path), None)
        vector = gallery.embeddings_of([id])[0].tobytes()
    return Trace(
        frozenset({id, records.encoded(str(path))}),
        (json.dumps(os.path.dirname(path)),),
        frozenset({vector}),
    )


def test_what_was_indexed_is_found_in_the_files_before_and_not_after(db, photos, retriever):
    trace = trace_of(db, photos / "John Doe/c.png")
    assert find_traces(db / "vectors.db", trace) == 4  # id, path, folder, vector
    with Gallery.open(db, read_only=False) as gallery:
        pictures = chosen(gallery, folder=str(photos / "John Doe"))
        done = forget(gallery, pictures)
    assert (done.pictures, done.files, done.left) == (2, 2, 0)
    assert find_traces(db / "vectors.db", trace) == 0
    assert names(db, retriever) == ["a.png", "b.png"]


def test_the_look_into_the_files_finds_a_row_that_the_database_hides(db, photos):
    trace = trace_of(db, photos / "a.png")
    with Gallery.open(db, read_only=False) as gallery:
        gallery.vectors.remove([records.picture_id(str(photos / "a.png"), None)])
        gallery.vectors.flush()
        assert len(gallery) == 3
    assert find_traces(db / "vectors.db", trace) >= 3


def test_rows_that_are_only_in_the_log_are_found_too(db, tmp_path, photos, retriever):
    with Gallery.open(db, read_only=False) as gallery:
        pictures = gallery.all_pictures()
        vector = np.full(16, 0.25, np.float32)
        gallery.vectors.add([records.to_row(pictures[0], vector)])
        trace = Trace(frozenset(), (), frozenset({vector.tobytes()}))
        assert find_traces(db / "vectors.db", trace) == 1


def test_tokens_thumbnails_and_lines_of_problems_go(db, photos, run):
    with Gallery.open(db) as gallery:
        id = records.picture_id(str(photos / "a.png"), None)
        key = records.token_key(gallery.picture(id).content, None)
        thumbnail = gallery.thumbnail_path(id)
    thumbnail.parent.mkdir(parents=True)
    thumbnail.write_bytes(b"x")
    problems = [{"path": str(photos / name), "reason": "x"} for name in ("a.png", "z.png")]
    (db / "unreadable.jsonl").write_text("".join(json.dumps(p) + "\n" for p in problems))
    assert (db / "tokens" / key[:2] / key).exists()
    code, out, _ = run("--ids", id, "--yes")
    assert code == 0 and "1 pictures of 1 files forgotten. Left of them: 0 records, 0 tok" in out
    assert not (db / "tokens" / key[:2] / key).exists() and not thumbnail.exists()
    assert json.loads((db / "unreadable.jsonl").read_text())["path"] == str(photos / "z.png")


def test_copies_of_a_forgotten_file_are_shown_and_go_too(db, photos, retriever, run):
    (photos / "copy.png").write_bytes((photos / "a.png").read_bytes())
    index(db, [photos], retriever, IndexOptions())
    (photos / "a").write_text(f"{photos / 'a.png'}\n")
    _, out, _ = run(f"--paths_from={photos / 'a'}", "--dry_run")
    assert "copy.png" in out and "2 pictures would be forgotten" in out
    assert run(f"--paths_from={photos / 'a'}", "--yes")[0] == 0
    assert names(db, retriever) == ["b.png", "c.png", "d.png"]


def test_paths_come_from_a_pipe_with_nul(db, photos, retriever, run):
    odd = photos / "line\nbreak 100%.png"
    (photos / "a.png").rename(odd)
    index(db, [photos], retriever, IndexOptions())
    code, out, _ = run("--paths_from=-", "-0", "--yes", stdin=f"{odd}\0{photos / 'b.png'}\0")
    assert code == 0 and "2 pictures" in out
    assert names(db, retriever) == ["c.png", "d.png"]


def test_the_next_indexing_leaves_them_out_and_a_flag_brings_them_back(db, photos, retriever, run):
    run(f"--folder={photos / 'John Doe'}", "--yes")
    report = index(db, [photos], retriever, IndexOptions())
    assert report.forgotten == 2 and report.pictures == 2
    report = index(db, [photos], retriever, IndexOptions(reindex=True))
    assert report.forgotten == 2 and report.pictures == 2
    report = index(db, [photos], retriever, IndexOptions(include_forgotten=True))
    assert report.new == 2 and report.pictures == 4
    os.utime(photos / "John Doe/c.png", (1, 1))
    assert index(db, [photos], retriever, IndexOptions()).pictures == 4


def test_without_exclusion_nothing_is_kept_and_they_come_back(db, photos, retriever, run):
    run(f"--folder={photos / 'John Doe'}", "--yes", "--no_exclusion")
    with Gallery.open(db) as gallery:
        assert not gallery.vectors.state("excluded/")
    assert index(db, [photos], retriever, IndexOptions()).new == 2


def test_a_dry_run_touches_nothing(db, photos, run):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in db.rglob("*") if p.is_file()}
    code, out, _ = run(f"--folder={photos}", "--dry_run")
    assert code == 0 and "4 pictures would be forgotten" in out
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in db.rglob("*") if p.is_file()}
    for files in (before, after):
        del files[db / "lock"]
    assert before == after


def test_without_a_terminal_it_asks_for_yes(db, photos, retriever, run):
    code, _, err = run(f"--folder={photos}")
    assert code == 2 and "confirm it with --yes" in err and len(names(db, retriever)) == 4


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("answer, left", [("y\n", 0), ("n\n", 4), ("\n", 4), ("", 4)])
def test_on_a_terminal_it_asks(db, photos, retriever, capsys, answer, left):
    code = command.main([f"--db={db}", f"--folder={photos}"], _Terminal(answer))
    assert code == 0 and "[y/N]" in capsys.readouterr().out
    assert len(snapshot(db, retriever)) == left


@pytest.mark.parametrize(
    "flags, says",
    [
        ([], "nothing to forget"),
        (["--folder=/nowhere", "--yes"], "no indexed picture is chosen"),
        (["--ids", "0" * 32, "--yes"], "no picture with the id"),
        (["--ids", "' or 1==1", "--yes"], "no picture with the id"),
        (["--paths_from=/nowhere", "--yes"], "cannot be read"),
        (["--paths_from=/dev/null", "--yes"], "nothing to forget"),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_goes(db, retriever, run, flags, says):
    code, _, err = run(*flags)
    assert code == 2 and says in err and len(names(db, retriever)) == 4


def test_one_unknown_path_of_several_refuses_all(db, photos, retriever, run):
    code, _, err = run("--paths_from=-", "--yes", stdin=f"{photos / 'a.png'}\n/nowhere.png\n")
    assert code == 2 and "'/nowhere.png' is not indexed" in err
    assert len(names(db, retriever)) == 4


class _Crash(Exception):
    pass


class _Crashing:
    """A client that crashes when a method is called for the nth time."""

    def __init__(self, client, method, times=1):
        self._client, self._method, self._left = client, method, times

    def __getattr__(self, name):
        if name == self._method:
            self._left -= 1
            if not self._left:
                raise _Crash
        return getattr(self._client, name)


@pytest.mark.parametrize("times", [1, 2])  # of the pictures, of the state
@pytest.mark.parametrize("method", ["insert", "flush", "drop_collection", "rename_collection"])
def test_a_crash_while_rewriting_is_finished_at_the_next_opening(
    db, photos, retriever, method, times
):
    before = snapshot(db, retriever)
    with Gallery.open(db, read_only=False) as gallery:
        vectors = gallery.vectors
        client = vectors.client
        vectors.client = _Crashing(client, method, times)
        with pytest.raises(_Crash):
            vectors.rewrite()
        vectors.client = client
    after = snapshot(db, retriever)
    assert {key: value[0] for key, value in before.items()} == {k: v[0] for k, v in after.items()}
    assert all(np.array_equal(before[key][1], after[key][1]) for key in before)
    with Gallery.open(db) as gallery:
        listed = gallery.vectors.client.list_collections()
        assert sorted(listed) == ["pictures", "pictures_state"]


def test_a_forgetting_that_was_killed_is_finished_by_the_next_indexing(db, photos, retriever):
    trace = trace_of(db, photos / "a.png")
    with Gallery.open(db, read_only=False) as gallery:
        client = gallery.vectors.client
        gallery.vectors.client = _Crashing(client, "delete")
        with pytest.raises(_Crash):
            forget(gallery, chosen(gallery, paths=[str(photos / "a.png")]))
        gallery.vectors.client = client
    assert len(names(db, retriever)) == 4
    report = index(db, [photos], retriever, IndexOptions())
    assert report.forgotten == 1 and report.pictures == 3
    trace = trace._replace(parts=())
    assert find_traces(db / "vectors.db", trace) == 0
    assert len(list((db / "tokens").rglob("*/*"))) == 3


def test_a_gallery_of_many_rows_is_rewritten_whole(tmp_path):
    from cada_jax.gallery.place import place_of
    from cada_jax.gallery.vectors import Vectors
    from cada_jax.retrieval.searchable import Picture

    count = 2 * tables.INSERTED + 7
    paths = [f"/{n}" for n in range(count)]
    made = [Picture(records.picture_id(p, None), p, content="0" * 64) for p in paths]
    noise = np.random.default_rng(0).normal(size=(count, 16)).astype(np.float32)
    vectors = Vectors(place_of(tmp_path))
    vectors.create(16)
    vectors.load()
    vectors.add([records.to_row(p, v) for p, v in zip(made, noise, strict=True)])
    vectors.rewrite()
    rows = {row["id"]: row["vector"] for row in vectors.rows(["id", "vector"])}
    assert all(np.array_equal(rows[p.id], v) for p, v in zip(made, noise, strict=True))
    assert vectors.count() == count
    vectors.close()


def test_forgetting_everything_leaves_an_empty_gallery(db, photos, retriever, run):
    assert run(f"--folder={photos}", "--yes")[0] == 0
    assert not snapshot(db, retriever)
    with Gallery.open(db) as gallery:
        assert len(gallery) == 0 and gallery.summary()["pictures"] == 0
        with pytest.raises(UsageError, match="no picture with the id"):
            gallery.picture("0" * 32)
