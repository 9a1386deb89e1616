"""Finding picture files: folders, links, odd names, what cannot be read."""

import os
import subprocess

import hypothesis
import hypothesis.strategies as st
import pytest

from cada_jax.common.errors import MissingFileError
from cada_jax.gallery.scan import find_files


def write(path, data=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(root, *roots, **options):
    """(paths below root that are found, problems below root as {path: reason})."""
    scan = find_files(roots or [root], **options)
    relative = [os.path.relpath(file.path, root) for file in scan.files]
    return relative, {os.path.relpath(p.path, root): p.reason for p in scan.problems}


def test_pictures_are_found_in_sub_folders_and_nothing_else_is(tmp_path):
    for name in ("a.jpg", "in/b.png", "in/deep/er/c.webp", "notes.txt", "jpg", "d.jpg.part"):
        write(tmp_path / name)
    assert names(tmp_path) == (["a.jpg", "in/b.png", "in/deep/er/c.webp"], {})


def test_size_and_time_are_those_of_the_file(tmp_path):
    path = write(tmp_path / "a.jpg", b"12345")
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    (file,) = find_files([tmp_path]).files
    assert file[:3] == (str(path), 5, 1_234_567_890_123_456_789)
    assert file.changed_ns == os.stat(path).st_ctime_ns


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


def test_hidden_names_previews_and_deleted_files_are_left_out(tmp_path):
    for name in (".hidden.jpg", ".thumbnails/a.jpg", "shown.jpg", "@eaDir/x/a.jpg"):
        write(tmp_path / name)
    assert names(tmp_path) == (["shown.jpg"], {})
    assert names(tmp_path, tmp_path / ".thumbnails") == ([".thumbnails/a.jpg"], {})


def test_what_a_glob_names_is_left_out_by_name_or_by_path(tmp_path):
    for name in ("a.jpg", "in/b_small.jpg", "in/c.jpg", "deep/in/c.jpg"):
        write(tmp_path / name)
    assert names(tmp_path, exclude=["*_small.*"])[0] == ["a.jpg", "deep/in/c.jpg", "in/c.jpg"]
    assert names(tmp_path, exclude=["in"])[0] == ["a.jpg"]
    assert names(tmp_path, exclude=["*/deep/in"])[0] == ["a.jpg", "in/b_small.jpg", "in/c.jpg"]
    assert names(tmp_path, tmp_path / "in", exclude=["in"])[0] == ["in/b_small.jpg", "in/c.jpg"]


def test_a_folder_through_a_link_and_up_again_is_the_systems(tmp_path, monkeypatch):
    write(tmp_path / "real/inner/a.jpg")
    write(tmp_path / "real/b.jpg")
    write(tmp_path / "here/c.jpg")
    (tmp_path / "here/link").symlink_to(tmp_path / "real/inner")
    monkeypatch.chdir(tmp_path / "here")
    assert names(tmp_path, "link/..") == (["real/b.jpg", "real/inner/a.jpg"], {})


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
