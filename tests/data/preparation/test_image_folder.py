"""Images are found below their folder by the names that lists really hold, and nowhere else."""

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.data.preparation.image_folder import ImageFolder, name_problem

CAFE = unicodedata.normalize("NFC", "caf\u00e9 2.jpg")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("around") / "source"
    for name in ("cam_a/001.jpg", "cam_a/002.PNG", CAFE, "twice.jpg", "Twice.jpg", "x.webp"):
        path = root / "imgs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "flat.jpg").write_text("flat.jpg")
    (root / "imgs" / "._only.jpg").write_text("companion")
    (root.parent / "secret.jpg").write_text("secret")
    (root / "imgs" / "linked.jpg").symlink_to(root.parent / "secret.jpg")
    with open(os.path.join(os.fsencode(root / "imgs"), b"stra\xdfe.jpg"), "w") as file:
        file.write("not UTF-8")
    return root


def content(root, name):
    found = ImageFolder(root).find(name)
    assert found.problem is None, found.problem
    with open(found.path) as file:
        return file.read()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cam_a/001.jpg", "cam_a/001.jpg"),
        ("./cam_a//001.jpg", "cam_a/001.jpg"),
        ("cam_a\\001.jpg", "cam_a/001.jpg"),
        ("CAM_A/001.JPG", "cam_a/001.jpg"),
        ("cam_a/002.png", "cam_a/002.PNG"),
        ("imgs/cam_a/001.jpg", "cam_a/001.jpg"),
        ("flat.jpg", "flat.jpg"),
        (CAFE, CAFE),
        (unicodedata.normalize("NFD", CAFE), CAFE),
        ("twice.jpg", "twice.jpg"),
        ("Twice.jpg", "Twice.jpg"),
        ("linked.jpg", "secret"),
    ],
)
def test_a_name_is_found_however_it_is_spelt(root, name, expected):
    assert name_problem(name) is None
    assert content(root, name) == expected


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("TWICE.JPG", "fits several files, 'Twice.jpg' and 'twice.jpg'"),
        ("x.jpg", "is missing (there is 'x.webp')"),
        ("stra\u00dfe.jpg", "is missing (there is 'stra\\udcdfe.jpg')"),
        ("only.jpg", "is missing (there is '._only.jpg')"),
        ("cam_a", "is a folder"),
        ("gone.jpg", "is missing"),
        ("x" * 300 + ".jpg", "is missing"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_what_resembles_it(root, name, named):
    found = ImageFolder(root).find(name)
    assert (
        found.path is None
        and found.folder is None
        and found.problem == named
        or (found.problem.startswith(named) and "there is" not in found.problem)
    )


def test_a_folder_that_is_missing_whole_is_said_to_be(root):
    found = ImageFolder(root).find("cam_b/deep/001.jpg")
    assert (found.path, found.folder) == (None, "cam_b/deep")


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("/etc/hostname", "absolute"),
        ("../secret.jpg", "leads out"),
        ("cam_a/../../../secret.jpg", "leads out"),
        ("..\\..\\secret.jpg", "leads out"),
        ("cam_a\\..\\001.jpg", "leads out"),
        ("a\0b.jpg", "zero byte"),
        ("\udce9.jpg", "half a character"),
        ("cam_a/._001.jpg", "companion file"),
        ("", "expected a path"),
        ("  ", "expected a path"),
        (None, "expected a path"),
        (7, "expected a path"),
        (["a.jpg"], "expected a path"),
    ],
)
def test_names_that_are_no_paths_below_the_folder_are_refused(name, named):
    assert named in name_problem(name)


@pytest.mark.parametrize("name", ["C:\\photos\\001.jpg", "c:/photos/001.jpg", "\\\\server\\x.jpg"])
def test_paths_of_another_computer_are_refused(root, name):
    assert "absolute" in ImageFolder(root).find(name).problem


PARTS = st.sampled_from(
    ["..", ".", "", "cam_a", "imgs", "001.jpg", "secret.jpg", "source", "~", "C:", "._001.jpg"]
)


@given(
    name=st.lists(PARTS | st.text(max_size=5), max_size=6).flatmap(
        lambda parts: st.sampled_from(["/".join(parts), "\\".join(parts)])
    )
)
def test_no_name_reads_a_file_outside_the_folder(root, name):
    if name_problem(name) is not None:
        return
    found = ImageFolder(root).find(name)
    assert (found.path is None) == (found.problem is not None)
    if found.path is not None:
        inside = os.path.normpath(os.path.abspath(found.path))
        assert inside.startswith(f"{root}{os.sep}")
        assert "secret" not in os.path.basename(inside)
