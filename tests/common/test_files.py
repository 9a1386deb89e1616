"""What is written is whole or not there, and nothing of anybody else's makes room for it."""

import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.common import files
from cada_jax.common.errors import UsageError

MARK = "ours"


def is_ours(path):
    """Whether a folder holds the mark and nothing but it and data."""
    if not path.is_dir():
        return False
    names = {p.name for p in path.iterdir()}
    return MARK in names and names <= {MARK, "data", files.BEING_WRITTEN}


def write(path, data="new", overwrite=True):
    with files.whole_folder(path, overwrite, is_ours, "a box") as partial:
        (partial / MARK).touch()
        (partial / "data").write_text(data)


def snapshot(root: pathlib.Path) -> dict:
    """Everything below `root`: bytes of files, targets of links."""
    found = {}
    for path in sorted(root.rglob("*")):
        content = path.read_bytes() if path.is_file() else None
        found[path.relative_to(root)] = os.readlink(path) if path.is_symlink() else content
    return found


def foreign(path: pathlib.Path, kind: str) -> None:
    """Puts something of the user's at `path`."""
    if kind == "a file":
        path.write_text("words")
    elif kind == "a link to nothing":
        path.symlink_to(path.with_name("nothing"))
    elif kind == "a link to a folder with files":
        foreign(path.with_name("theirs"), "a folder with files")
        path.symlink_to(path.with_name("theirs"))
    else:
        path.mkdir()
        (path / "notes.md").mkdir()
        if "ours" in kind:
            (path / MARK).touch()


FOREIGN = (
    "a file",
    "a link to nothing",
    "a link to a folder with files",
    "a folder with files",
    "ours with another file in it",
)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_ours_is_refused_and_stays(tmp_path, kind, overwrite):
    foreign(tmp_path / "box", kind)
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match="is not a box that this program wrote") as error:
        write(tmp_path / "box", overwrite=overwrite)
    assert "Nothing was touched" in str(error.value) and len(str(error.value).splitlines()) == 1
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("name", [".box.partial", ".box.old"])
def test_what_lies_under_a_name_that_is_needed_on_the_way_stays_too(tmp_path, name, kind):
    foreign(tmp_path / name, kind)
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match=r"did not write. Move it away"):
        write(tmp_path / "box")
    assert not (tmp_path / "box").exists()
    assert snapshot(tmp_path) == before


def test_a_new_place_an_empty_folder_and_our_own_are_written(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new", "deep/er/new"):
        write(tmp_path / name, overwrite=False)
        with pytest.raises(UsageError, match="--overwrite replaces it"):
            write(tmp_path / name, "other", overwrite=False)
        assert (tmp_path / name / "data").read_text() == "new"
        write(tmp_path / name, "other")
        assert (tmp_path / name / "data").read_text() == "other"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "empty", "new"]


def test_a_link_to_our_own_folder_stays_a_link(tmp_path):
    write(tmp_path / "there" / "box")
    (tmp_path / "link").symlink_to(tmp_path / "there" / "box")
    write(tmp_path / "link", "other")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "box" / "data").read_text() == "other"


def test_a_block_that_raises_leaves_the_old_folder_and_nothing_else(tmp_path):
    write(tmp_path / "box", "old")
    with pytest.raises(KeyError):
        with files.whole_folder(tmp_path / "box", True, is_ours, "a box") as partial:
            (partial / "half").touch()
            raise KeyError
    assert (tmp_path / "box" / "data").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["box"]


class Killed(BaseException):
    """As SIGKILL: nothing that comes after it is run, but for what a test puts back."""


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_crash_between_any_two_renames_leaves_the_old_or_the_new(tmp_path, monkeypatch, renames):
    write(tmp_path / "box", "old")
    rename, done = pathlib.Path.rename, []

    def dies(self, target):
        if len(done) >= renames:
            raise Killed
        done.append(target)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "rename", dies)
        patch.setattr(files.shutil, "rmtree", lambda *_, **__: None)
        try:
            write(tmp_path / "box", "new")
        except Killed:
            pass
    files.settle(tmp_path / "box", is_ours)
    assert (tmp_path / "box" / "data").read_text() == ("new" if renames == 2 else "old")
    write(tmp_path / "box", "newer")
    assert (tmp_path / "box" / "data").read_text() == "newer"
    assert [p.name for p in tmp_path.iterdir()] == ["box"]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    (tmp_path / ".box.partial").mkdir()
    (tmp_path / ".box.partial" / files.BEING_WRITTEN).touch()
    (tmp_path / ".box.partial" / "half").touch()
    write(tmp_path / "box")
    assert [p.name for p in tmp_path.iterdir()] == ["box"]


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40
).filter(lambda name: name not in (".", ".."))


@given(name=NAMES)
def test_any_name_of_a_folder_works(tmp_path_factory, name):
    root = tmp_path_factory.mktemp("names")
    write(root / name, "one")
    write(root / name, "two")
    assert (root / name / "data").read_text() == "two" and len(list(root.iterdir())) == 1


def test_a_file_is_whole_or_as_it_was(tmp_path):
    files.write_text(tmp_path / "a", "old")
    with pytest.raises(KeyError):
        with files.whole_file(tmp_path / "a") as partial:
            partial.write_text("half")
            raise KeyError
    assert (tmp_path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
