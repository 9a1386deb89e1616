"""Folders as published, whole and broken: what is read, and how each fault is reported."""

import copy
import dataclasses
import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.data import registry
from cada_jax.data.preparation.image_folder import ImageFolder, name_problem
from cada_jax.data.preparation.source import (
    MOST_PERSONS,
    Problem,
    list_briefly,
    number_persons,
    read_source,
)
from tests.conftest import DATASETS

LAYOUTS = {name: builder.LAYOUT for name, builder in registry.PUBLISHED.items()}
LAYOUT = LAYOUTS["rstp"]
ENTRIES = json.loads((DATASETS / "rstp" / "dummy_data" / "data_captions.json").read_text())
KEYS = ("id", "img_path", "captions", "split")


def copy_dummy(name, folder):
    return Path(shutil.copytree(DATASETS / name / "dummy_data", folder))


@pytest.fixture
def rstp(tmp_path):
    return copy_dummy("rstp", tmp_path / "RSTPReid")


def read(folder, entries):
    (folder / "data_captions.json").write_text(json.dumps(entries))
    return read_source(LAYOUT, folder)


def test_the_folder_may_be_the_parent_and_lack_the_imgs_level(tmp_path, rstp):
    for path in (rstp / "imgs").iterdir():
        path.rename(rstp / path.name)
    (rstp / "imgs").rmdir()
    source = read_source(LAYOUT, tmp_path)
    assert source.annotation.parent == rstp and source.problems == []


def test_a_folder_without_the_list_is_told_with_what_it_holds(tmp_path):
    (tmp_path / "RSTPReid.zip").touch()
    with pytest.raises(MissingFileError, match=r"data_captions\.json.*imgs/; found RSTPReid\.zip"):
        read_source(LAYOUT, tmp_path)
    with pytest.raises(MissingFileError, match="found a file"):
        read_source(LAYOUT, tmp_path / "RSTPReid.zip")
    with pytest.raises(MissingFileError, match="nowhere: .*found nothing"):
        read_source(LAYOUT, tmp_path / "nowhere")


@pytest.mark.parametrize("data", ["[{", '[{"file_path": 1}]'])
def test_a_list_of_something_else_is_one_line(rstp, data):
    (rstp / "data_captions.json").write_text(data, encoding="latin-1")
    with pytest.raises(
        UsageError, match=r"data_captions\.json: expected the list of RSTPReid"
    ) as e:
        read_source(LAYOUT, rstp)
    assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("captions", ["fine", "  ..."], "empty caption '  ...'"),
        ("captions", ["a top &amp; a bag"], "HTML entity &amp;"),
        ("split", "training", "split is 'training', expected one of train, val, test"),
        ("id", -1, "id is '-1', expected 0, 1, ... or a name"),
        ("img_path", "../../x.jpg", "'../../x.jpg' leads out of the folder"),
        ("img_path", "gone.jpg", "'gone.jpg' is missing under"),
    ],
)
def test_each_fault_is_one_line_that_names_the_entry(rstp, key, value, named):
    entries = copy.deepcopy(ENTRIES)
    entries[2][key] = value
    (problem,) = read(rstp, entries).problems
    assert problem.text.startswith("entry 2: ") and named in problem.text
    assert len(problem.text) < 400 and len(problem.text.splitlines()) == 1


def test_what_is_listed_twice_is_named(rstp):
    entries = copy.deepcopy(ENTRIES)
    entries[2]["img_path"] = "./0001_c02_0004.jpg"
    entries[4]["id"] = 0
    person, image = (problem.text for problem in read(rstp, entries).problems)
    assert person == "person '0' is in train and val"
    assert image.endswith("0001_c02_0004.jpg is listed twice: entry 2, entry 3")


def test_a_list_with_the_published_counts_is_taken_as_its_authors_numbered_it(rstp):
    """Whether a data set numbers its persons anew in each split is its authors' affair."""
    entries = copy.deepcopy(ENTRIES)
    entries[4]["id"] = entries[0]["id"]
    source = read(rstp, entries)
    assert len(source.blocking) == len(source.problems) == 1
    counts = {split: source.counts(split) for split in LAYOUT.published}
    source = read_source(dataclasses.replace(LAYOUT, published=counts), rstp)
    assert source.blocking == [] and len(source.problems) == 1


def test_numbers_that_fit_stay_and_names_are_counted():
    assert number_persons(["7", "0", "7"]) == ([7, 0, 7], ())
    assert number_persons(["07", str(2**31), "07"]) == ([0, 1, 0], ("07", str(2**31)))


@given(ids=st.lists(st.integers(0, 2**70).map(str)) | st.lists(st.text(min_size=1)))
def test_two_images_have_one_number_exactly_if_they_have_one_person(ids):
    numbers, persons = number_persons(ids)
    assert len(set(zip(ids, numbers, strict=True))) == len(set(ids)) == len(set(numbers))
    assert all(0 <= number < MOST_PERSONS for number in numbers)
    assert [persons[n] if persons else str(n) for n in numbers] == ids


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ODD = st.sampled_from(
    ["\ud83d", "\u200b", "../x.jpg", "a\\b.jpg", "0001_C02_0004.JPG", ["train"], "x" * 5000, "\0"]
)


@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(ENTRIES) - 1), st.sampled_from(KEYS), JSON | ODD), max_size=4
    ),
    removed=st.lists(
        st.tuples(st.integers(0, len(ENTRIES) - 1), st.sampled_from(KEYS)), max_size=2
    ),
)
def test_a_mutated_entry_is_a_problem_or_read_as_written(tmp_path_factory, changes, removed):
    folder = copy_dummy("rstp", tmp_path_factory.mktemp("entries") / "RSTPReid")
    entries = copy.deepcopy(ENTRIES)
    for number, key, value in changes:
        entries[number][key] = value
    for number, key in removed:
        entries[number].pop(key, None)
    source = read(folder, entries)
    entries = json.loads(json.dumps(entries))
    for problem in source.problems:
        problem.text.encode()
        assert len(problem.text.splitlines()) == 1 and len(problem.text) < 600
    for entry in source.entries:
        written = entries[int(entry.place.removeprefix("entry "))]
        assert entry.image == written["img_path"] and entry.split == written["split"]
        assert list(entry.captions) == written["captions"]
        assert entry.person == str(written["id"])
        assert source.persons or entry.pid == written["id"] or str(entry.pid) == written["id"]
        inside = os.path.relpath(os.path.realpath(entry.path), os.path.realpath(folder))
        assert not inside.startswith("..")
    assert source.problems or len(source.entries) == len(entries)


CAFE = unicodedata.normalize("NFC", "caf\u00e9 2.jpg")
SPELT = {
    "cam_a/001.jpg": "cam_a/001.jpg",
    "./cam_a//001.jpg": "cam_a/001.jpg",
    "cam_a\\001.jpg": "cam_a/001.jpg",
    "CAM_A/001.JPG": "cam_a/001.jpg",
    "imgs/cam_a/001.jpg": "cam_a/001.jpg",
    "flat.jpg": "flat.jpg",
    unicodedata.normalize("NFD", CAFE): CAFE,
    "Twice.jpg": "Twice.jpg",
    "linked.jpg": "secret",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("around") / "source"
    for name in ("cam_a/001.jpg", CAFE, "twice.jpg", "Twice.jpg"):
        path = root / "imgs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "flat.jpg").write_text("flat.jpg")
    (root.parent / "secret.jpg").write_text("secret")
    (root / "imgs" / "linked.jpg").symlink_to(root.parent / "secret.jpg")
    return root


def test_a_name_is_found_however_it_is_spelt(root):
    for name, expected in SPELT.items():
        (path,) = ImageFolder(root).find(name)
        assert name_problem(name) is None and Path(path).read_text() == expected
    assert len(ImageFolder(root).find("TWICE.JPG")) == 2
    assert [ImageFolder(root).find(name) for name in ("gone.jpg", "cam_a", "x" * 300)] == [[]] * 3


PARTS = st.sampled_from(["..", ".", "", "cam_a", "imgs", "001.jpg", "secret.jpg", "~", "C:"])


@given(
    name=st.lists(PARTS | st.text(max_size=5), max_size=6).flatmap(
        lambda parts: st.sampled_from(["/".join(parts), "\\".join(parts)])
    )
)
def test_no_name_reads_a_file_outside_the_folder(root, name):
    if name_problem(name) is None:
        for path in ImageFolder(root).find(name):
            assert os.path.abspath(path).startswith(f"{root}{os.sep}")
            assert os.path.basename(path) != "secret.jpg"


def test_of_many_problems_of_a_kind_ten_are_listed():
    kinds = {"images": 12, "captions": 2}
    problems = [Problem(kind, f"{kind} {i}") for kind, n in kinds.items() for i in range(n)]
    lines = list(list_briefly(problems))
    assert lines[9:] == [
        "images 9",
        "... 12 problems with images in all",
        "captions 0",
        "captions 1",
    ]
