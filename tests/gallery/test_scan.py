"""Finding picture files: folders, links, odd names, what cannot be read."""

import os
import subprocess

import hypothesis
import hypothesis.strategies as st
import pytest

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.gallery.scan import find_files

ODD_NAMES = (
    *("100%.jpg", "a#b.jpg", "what?.jpg", "a+b.jpg", "a;b.jpg", "it's.jpg", 'say "x".jpg'),
    *(" blank .jpg", "line\nbreak.jpg", "tab\t.jpg", "日本語.png", "ß\u0301\U0001f600.webp"),
    *("back\\slash.bmp", "-flag.tif", "UPPER.JPEG", "~.gif", "$HOME.jpg", "*.jpg", "[a].mpo"),
)


def write(path, data=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(root, *roots):
    """(paths below root that are found, problems below root as {path: reason})."""
    files, problems = find_files(roots or [root])
    relative = [os.path.relpath(file.path, root) for file in files]
    return relative, {os.path.relpath(p.path, root): p.reason for p in problems}


def test_pictures_are_found_in_sub_folders_and_nothing_else_is(tmp_path):
    for name in ("a.jpg", "in/b.png", "in/deep/er/c.webp", "notes.txt", "jpg", "d.jpg.part"):
        write(tmp_path / name)
    assert names(tmp_path) == (["a.jpg", "in/b.png", "in/deep/er/c.webp"], {})


def test_size_and_time_are_those_of_the_file(tmp_path):
    path = write(tmp_path / "a.jpg", b"12345")
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    (file,), _ = find_files([tmp_path])
    assert file == (str(path), 5, 1_234_567_890_123_456_789)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_is_found_whatever_its_name(tmp_path, name):
    write(tmp_path / name)
    assert names(tmp_path) == ([name], {})


@hypothesis.given(
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40
    ).filter(lambda t: not t.startswith("."))
)
def test_every_name_of_unicode_is_found(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("named")
    write(folder / f"{name}.jpg")
    assert names(folder) == ([f"{name}.jpg"], {})


def test_a_name_that_is_no_utf8_is_a_problem_and_the_others_are_found(tmp_path):
    write(tmp_path / "good.jpg")
    open(os.fsencode(tmp_path) + b"/bad\xff.jpg", "wb").close()
    found, problems = names(tmp_path)
    assert found == ["good.jpg"]
    assert problems == {"bad\ufffd.jpg": "its name is not UTF-8: rename it"}


def test_hidden_files_and_folders_are_left_out(tmp_path):
    for name in (".hidden.jpg", ".thumbnails/a.jpg", "shown.jpg", "._shown.jpg"):
        write(tmp_path / name)
    assert names(tmp_path) == (["shown.jpg"], {})


def test_a_hidden_folder_that_is_named_is_looked_through(tmp_path):
    write(tmp_path / ".private/a.jpg")
    assert names(tmp_path, tmp_path / ".private") == ([".private/a.jpg"], {})


def test_links_are_followed_and_a_file_counts_once(tmp_path):
    write(tmp_path / "photos/a.jpg")
    write(tmp_path / "elsewhere/b.jpg")
    (tmp_path / "photos/again.jpg").symlink_to("a.jpg")
    (tmp_path / "photos/outside").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/0 first by name").symlink_to(tmp_path / "elsewhere")
    found, problems = names(tmp_path / "photos")
    assert found == ["0 first by name/b.jpg", "a.jpg"] and not problems


def test_a_loop_of_links_ends(tmp_path):
    write(tmp_path / "a/b/c.jpg")
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    found, problems = names(tmp_path)
    assert found == ["a/b/c.jpg"]
    assert "self.jpg" in problems


def test_overlapping_roots_count_once(tmp_path):
    write(tmp_path / "a/b/c.jpg")
    roots = [tmp_path / "a/b", tmp_path, tmp_path / "a", tmp_path / "a/b/c.jpg", tmp_path]
    assert names(tmp_path, *roots) == (["a/b/c.jpg"], {})


def test_a_file_of_any_suffix_may_be_named(tmp_path):
    assert names(tmp_path, write(tmp_path / "a.data")) == (["a.data"], {})


def test_a_broken_link_is_a_problem(tmp_path):
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    found, problems = names(tmp_path)
    assert not found and "is not there" in problems["gone.jpg"]


def test_an_empty_file_is_found_so_that_reading_it_tells_what_is_wrong(tmp_path):
    write(tmp_path / "empty.jpg", b"")
    assert names(tmp_path) == (["empty.jpg"], {})


def test_a_pipe_is_a_problem_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert names(tmp_path) == ([], {"pipe.jpg": "is no ordinary file"})


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_permission_is_a_problem(tmp_path):
    write(tmp_path / "shut/a.jpg")
    (tmp_path / "shut").chmod(0)
    try:
        found, problems = names(tmp_path)
    finally:
        (tmp_path / "shut").chmod(0o700)
    assert not found and "cannot be read" in problems["shut"]


def test_a_tree_deeper_than_the_stack_is_walked(tmp_path):
    depth, folder = 1200, os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):  # its path is longer than a system call takes
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open("a.jpg", os.O_CREAT, dir_fd=folder))
    os.close(folder)
    found = names(tmp_path)[0]
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # deeper than pytest's stack, too
    assert found == ["d/" * depth + "a.jpg"]


def test_a_root_that_is_missing_is_refused(tmp_path):
    write(tmp_path / "a.jpg")
    with pytest.raises(MissingFileError, match="usb: expected a folder.*nothing was removed"):
        find_files([tmp_path, tmp_path / "usb"])


def test_no_root_is_refused():
    with pytest.raises(UsageError, match="no folder was given"):
        find_files([])
