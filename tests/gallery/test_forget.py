"""Pictures are taken out of a gallery so that nothing of them is left."""

import io
import os

import pytest

from cada_jax.common.errors import UsageError
from cada_jax.gallery.commands import forget as command
from cada_jax.gallery.forget import chosen, forget_pictures
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.index import IndexOptions, index_pictures
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
    index_pictures(tmp_path / "db", [photos], retriever, IndexOptions())
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


def test_nothing_of_what_is_forgotten_is_in_the_files(db, photos, retriever):
    found = snapshot(db, retriever)
    traces = [b"John Doe"]
    for record, vector, tokens in found.values():
        if "John Doe" in record.path:
            traces += [record.id.encode(), vector.tobytes(), tokens.tobytes()]

    def left():
        data = b"".join(path.read_bytes() for path in db.parent.glob("db*"))
        return sum(trace in data for trace in traces)

    assert left() == 5  # the tokens of this model are kept with fewer bits than it computes with
    with Gallery.open(db) as reader, Gallery.open(db, read_only=False) as gallery:
        assert len(reader) == 4
        assert forget_pictures(gallery, chosen(gallery, folder=str(photos / "John Doe"))) == 2
        assert left() == 0 and len(reader) == 2
    assert left() == 0 and names(db, retriever) == ["a.png", "b.png"]


def test_a_forgetting_that_is_cut_off_is_finished_by_whoever_changes_next(db, photos, retriever):
    def left():
        return b"John Doe" in b"".join(path.read_bytes() for path in db.parent.glob("db*"))

    with Gallery.open(db, read_only=False) as gallery:
        gone = chosen(gallery, folder=str(photos / "John Doe"))
        gallery.store.forget([picture.id for picture in gone], {p.content for p in gone})
        assert left()
    report = index_pictures(db, [photos], retriever, IndexOptions())
    assert not left() and (report.pictures, report.forgotten) == (2, 2)


def test_copies_of_a_forgotten_file_are_shown_and_go_too(db, photos, retriever, run):
    (photos / "copy.png").write_bytes((photos / "a.png").read_bytes())
    index_pictures(db, [photos], retriever, IndexOptions())
    (photos / "a").write_text(f"{photos / 'a.png'}\n")
    _, out, _ = run(f"--paths_from={photos / 'a'}", "--dry_run")
    assert "copy.png" in out and "2 pictures would be forgotten" in out
    assert run(f"--paths_from={photos / 'a'}", "--yes")[0] == 0
    assert names(db, retriever) == ["b.png", "c.png", "d.png"]


def test_paths_come_from_a_pipe_with_nul(db, photos, retriever, run):
    odd = photos / "line\nbreak 100%.png"
    (photos / "a.png").rename(odd)
    index_pictures(db, [photos], retriever, IndexOptions())
    code, out, _ = run("--paths_from=-", "--null", "--yes", stdin=f"{odd}\0{photos / 'b.png'}\0")
    assert code == 0 and "2 pictures" in out
    assert names(db, retriever) == ["c.png", "d.png"]


def test_the_next_indexing_leaves_them_out_and_a_flag_brings_them_back(db, photos, retriever, run):
    run(f"--folder={photos / 'John Doe'}", "--yes")
    report = index_pictures(db, [photos], retriever, IndexOptions())
    assert report.forgotten == 2 and report.pictures == 2
    report = index_pictures(db, [photos], retriever, IndexOptions(reindex=True))
    assert report.forgotten == 2 and report.pictures == 2
    report = index_pictures(db, [photos], retriever, IndexOptions(include_forgotten=True))
    assert report.new == 2 and report.pictures == 4
    os.utime(photos / "John Doe/c.png", (1, 1))
    assert index_pictures(db, [photos], retriever, IndexOptions()).pictures == 4


def test_without_exclusion_nothing_is_kept_and_they_come_back(db, photos, retriever, run):
    run(f"--folder={photos / 'John Doe'}", "--yes", "--no_exclusion")
    with Gallery.open(db) as gallery:
        assert not gallery.store.forgotten()
    assert index_pictures(db, [photos], retriever, IndexOptions()).new == 2


def test_a_dry_run_touches_nothing(db, photos, run):
    before = {p: p.read_bytes() for p in db.parent.glob("db*")}
    code, out, _ = run(f"--folder={photos}", "--dry_run")
    assert code == 0 and "4 pictures would be forgotten" in out
    assert before == {p: p.read_bytes() for p in db.parent.glob("db*")}


def test_without_a_terminal_it_asks_for_yes(db, photos, retriever, run):
    code, _, err = run(f"--folder={photos}")
    assert code == 2 and "confirm it with --yes" in err and len(names(db, retriever)) == 4


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("answer, left", [("y\n", 0), ("\n", 4)])
def test_on_a_terminal_it_asks(db, photos, retriever, capsys, answer, left):
    code = command.main([f"--db={db}", f"--folder={photos}"], _Terminal(answer))
    assert code == 0 and "[y/N]" in capsys.readouterr().out
    assert len(snapshot(db, retriever)) == left


@pytest.mark.parametrize(
    "flags, says",
    [
        ([], "nothing to forget"),
        (["--ids", "0" * 32, "--yes"], "no picture with the id"),
        (["--paths_from=/dev/zero", "--yes"], "got a pipe or a device"),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_goes(db, retriever, run, flags, says):
    code, _, err = run(*flags)
    assert code == 2 and says in err and len(names(db, retriever)) == 4


def test_one_unknown_path_of_several_refuses_all(db, photos, retriever, run):
    code, _, err = run("--paths_from=-", "--yes", stdin=f"{photos / 'a.png'}\n/nowhere.png\n")
    assert code == 2 and "'/nowhere.png' is not indexed" in err
    assert len(names(db, retriever)) == 4


def test_forgetting_everything_leaves_an_empty_gallery(db, photos, retriever, run):
    assert run(f"--folder={photos}", "--yes")[0] == 0
    assert not snapshot(db, retriever)
    with Gallery.open(db) as gallery:
        assert len(gallery) == 0 and gallery.summary()["pictures"] == 0
        with pytest.raises(UsageError, match="no picture with the id"):
            gallery.picture("0" * 32)
