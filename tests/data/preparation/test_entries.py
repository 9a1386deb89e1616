"""Entries that somebody mutated: refused in one line, or read as they are meant."""

import copy
import json
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.common.errors import UsageError
from cada_jax.data import registry
from cada_jax.data.preparation.annotations import blocking_problems, list_problems, read_source
from cada_jax.data.preparation.entries import (
    MOST_PERSONS,
    Problem,
    list_problems_briefly,
    number_persons,
)
from tests.conftest import DATASETS

LAYOUT = registry.PUBLISHED["rstp"].LAYOUT
ENTRIES = json.loads((DATASETS / "rstp" / "dummy_data" / "data_captions.json").read_text())
KEYS = ("id", "img_path", "captions", "split")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    source = DATASETS / "rstp" / "dummy_data"
    return shutil.copytree(source, tmp_path_factory.mktemp("entries") / "RSTPReid")


def read(folder, entries):
    (folder / "data_captions.json").write_text(json.dumps(entries))
    return read_source(LAYOUT, folder)


@pytest.mark.parametrize(
    ("ids", "numbers", "persons"),
    [
        ([7, 0, 7, MOST_PERSONS - 1], [7, 0, 7, MOST_PERSONS - 1], ()),
        ([2**31, 5, 2**63, 5], [1, 0, 2, 0], (5, 2**31, 2**63)),
        (["p2", "p10", "p2"], [0, 1, 0], ("p2", "p10")),
        (["07", "7"], [0, 1], ("07", "7")),
        ([], [], ()),
    ],
)
def test_persons_get_numbers_that_fit(ids, numbers, persons):
    assert number_persons(ids) == (numbers, persons)


@given(ids=st.lists(st.integers(0, 2**70)) | st.lists(st.text(min_size=1)))
def test_two_images_have_one_number_exactly_if_they_have_one_person(ids):
    numbers, persons = number_persons(ids)
    assert len(set(zip(ids, numbers, strict=True))) == len(set(ids)) == len(set(numbers))
    assert all(0 <= number < MOST_PERSONS for number in numbers)
    assert [persons[n] if persons else n for n in numbers] == ids


@pytest.mark.parametrize("others", [("a", "b"), (7, 8)])
def test_the_rarer_kind_of_ids_is_the_wrong_one(folder, others):
    entries = copy.deepcopy(ENTRIES)
    for number, entry in enumerate(entries):
        entry["id"] = f"p{number}" if isinstance(others[0], str) else number
    entries[3]["id"] = 3 if isinstance(others[0], str) else "3"
    (problem,) = read(folder, entries).problems
    assert problem.text.startswith("entry 3: id is") and "as elsewhere" in problem.text


def test_persons_with_names_are_prepared_and_named_by_them(folder, tmp_path):
    from cada_jax.data.preparation.features import caption_config
    from cada_jax.data.split import load_split
    from tests.conftest import _load_config

    entries = copy.deepcopy(ENTRIES)
    for entry in entries:
        entry["id"] = f"person {entry['id']}"
    read(folder, entries)
    vocabulary = caption_config(str(folder / "vocab.txt"))
    builder = registry.PUBLISHED["rstp"](data_dir=str(tmp_path), config=vocabulary)
    registry.write_records(builder, folder)
    config = _load_config("rstp")
    config.data.update(data_dir=str(tmp_path), variant=vocabulary.name)
    split = load_split(config, "test")
    names = [split.person(pid) for pid in split.image_pids]
    assert names == [entry["id"] for entry in entries if entry["split"] == "test"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ODD = st.sampled_from(
    [
        -1,
        2**31,
        2**63,
        12.0,
        float("nan"),
        "\ud83d",
        "\u200b",
        "../x.jpg",
        "/etc/hostname",
        "a\\b.jpg",
        "0001_C02_0004.JPG",
        "._0001_c02_0004.jpg",
        ["train"],
        {"train": 1},
        ["a man", ["a"]],
        ["\U0001f600"],
        ["a &lt;b&gt; man"],
        ["man " * 5000],
        "x" * 5000,
        "\0",
    ]
)


@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(ENTRIES) - 1), st.sampled_from(KEYS), JSON | ODD), max_size=4
    ),
    removed=st.lists(
        st.tuples(st.integers(0, len(ENTRIES) - 1), st.sampled_from(KEYS)), max_size=2
    ),
    replaced=st.lists(st.tuples(st.integers(0, len(ENTRIES) - 1), JSON), max_size=1),
)
def test_a_mutated_entry_is_one_problem_or_read_as_written(folder, changes, removed, replaced):
    entries = copy.deepcopy(ENTRIES)
    for number, key, value in changes:
        entries[number][key] = value
    for number, key in removed:
        entries[number].pop(key, None)
    for number, value in replaced:
        entries[number] = value
    try:
        source = read(folder, entries)
    except UsageError as err:
        assert len(str(err).splitlines()) == 1
        return
    entries = json.loads(json.dumps(entries))
    assert len(source.entries) + len(source.problems) == len(entries)
    for problem in list_problems(source):
        problem.text.encode()
        assert len(problem.text.splitlines()) == 1 and len(problem.text) < 600
    for entry in source.entries:
        written = entries[entry.number]
        assert entry.image == written["img_path"] and entry.split == written["split"]
        assert list(entry.captions) == written["captions"]
        assert entry.person == written["id"] == source.person(entry.pid)
        assert type(entry.person) is type(written["id"])
        file = source.image_file(entry)
        if file is not None:
            inside = os.path.relpath(os.path.realpath(file), os.path.realpath(folder))
            assert not inside.startswith("..")
    untouched = {n for n, _, _ in changes} | {n for n, _ in removed} | {n for n, _ in replaced}
    good = {entry.number for entry in source.entries}
    if not blocking_problems(source):
        assert good == set(range(len(entries)))
    ids = [e["id"] for e in entries if isinstance(e, dict) and "id" in e]
    if all(type(i) is int for i in ids):
        assert good >= set(range(len(entries))) - untouched


def problems_of(kinds):
    return [Problem(kind, f"{kind} {i}") for kind, n in kinds.items() for i in range(n)]


def test_few_problems_are_listed_in_full_and_of_many_ten_of_each_kind():
    few = problems_of({"a": 12, "b": 8})
    assert list_problems_briefly(few) == [problem.text for problem in few]
    lines = list_problems_briefly(problems_of({"a": 12, "b": 9}))
    assert lines[0] == "a: 12, the first 10" and lines[11] == "b: 9" and len(lines) == 21
    assert lines[10] == "  a 9" and lines[-1] == "  b 8"
