"""Records as rows of a database, and filters that need no escaping."""

import hypothesis
import hypothesis.strategies as st
import pytest

from cada_jax.gallery import records
from cada_jax.retrieval.query import Where
from cada_jax.retrieval.searchable import Picture

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
NUMBERS = st.floats(-1e6, 1e6)
BOXES = st.none() | st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
PICTURES = st.builds(
    Picture,
    id=st.text("0123456789abcdef", min_size=32, max_size=32),
    path=TEXT,
    content=st.text("0123456789abcdef", min_size=64, max_size=64),
    size=st.integers(0, 2**53),
    modified_ns=st.integers(-(2**63), 2**63 - 1),
    taken=st.floats(-1e11, 1e11),
    camera=TEXT,
    width=st.integers(1, 10**5),
    height=st.integers(1, 10**5),
    box=BOXES,
    box_score=st.none() | st.floats(0, 1),
    pid=st.integers(-1, 10**6),
)


@hypothesis.given(PICTURES)
def test_a_record_comes_back_from_its_row(picture):
    row = records.to_row(picture, [0.0] * 4)
    assert records.from_row(row) == picture
    assert all(len(value) < 65_536 for value in row.values() if isinstance(value, str))


def test_the_longest_path_of_a_file_system_fits():
    row = records.to_row(Picture("0" * 32, "/" + "\U0001f600" * 1023, camera="é" * 200), [0.0])
    assert max(len(v.encode()) for v in row.values() if isinstance(v, str)) < 65_536


@hypothesis.given(TEXT, TEXT)
def test_ids_and_token_keys_differ_for_different_things(one, two):
    boxes = None, (1.0, 2.0, 3.0, 4.0)
    ids = {records.picture_id(path, box) for path in (one, two) for box in boxes}
    assert len(ids) == 2 * len({one, two})
    assert all(len(id) == 32 for id in ids)


def test_a_box_is_the_same_in_whole_numbers_and_in_fractions():
    assert records.picture_id("a", (1, 2, 3, 4)) == records.picture_id("a", (1.0, 2.0, 3.0, 4.0))


@hypothesis.given(TEXT, TEXT)
def test_a_prefix_stays_a_prefix(start, rest):
    assert records.encoded(start + rest).startswith(records.encoded(start))


@hypothesis.given(TEXT.filter(lambda t: "\0" not in t), TEXT.filter(lambda t: "\0" not in t))
def test_a_filter_holds_no_character_that_would_need_escaping(folder, camera):
    expression = records.expression(Where(folder=folder, camera=camera))
    for literal in expression.split('"')[1::2]:
        assert all(c.isascii() and (c.isalnum() or c in "/._-~%") for c in literal)


@pytest.mark.parametrize(
    "where, expression",
    [
        (Where(), ""),
        (Where(folder="/a b/"), 'path_key >= "/a%20b/" and path_key < "/a%20b0"'),
        (Where(folder="/"), 'path_key >= "/" and path_key < "0"'),
        (Where(since=-1.0, until=2.5), "taken >= -1.0 and taken < 2.5"),
        (Where(camera='x" or ""=="'), 'camera_key == "x%22%20or%20%22%22%3D%3D%22"'),
    ],
)
def test_filters_in_the_language_of_the_database(where, expression):
    assert records.expression(where) == expression
