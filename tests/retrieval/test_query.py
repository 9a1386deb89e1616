"""What may be asked of a gallery, and how senseless values are refused."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cada_jax.common.errors import UsageError
from cada_jax.retrieval.filter import Filter, folders_below
from cada_jax.retrieval.query import MOST_PHRASINGS, MOST_RESULTS, Query

# What a field says of a value of the wrong type is what is tested here.
pytestmark = pytest.mark.usefixtures("unchecked_shapes")


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"exclude": ("a hat",)}, "nothing to search for"),
        ({"texts": ("a man", "?!")}, "expected at least one word"),
        ({"texts": ("a man",) * (MOST_PHRASINGS + 1)}, "texts has 17 descriptions"),
        ({"texts": "a man", "exclude": "a hat", "rerank": 0}, "exclude needs the decoder"),
        ({"like": "a.jpg", "like_id": "00"}, "like or like_id, not both"),
    ],
)
def test_a_senseless_query_is_one_error_that_names_the_field(fields, part):
    with pytest.raises(UsageError, match=part):
        Query(**fields)


@pytest.mark.parametrize(
    ("fields", "part"),
    [({"since": math.inf}, "since is inf"), ({"since": 5.0, "until": 5.0}, "until to be later")],
)
def test_a_senseless_filter_is_one_error_that_names_the_field(fields, part):
    with pytest.raises(UsageError, match=part):
        Filter(**fields)


def test_a_single_text_is_one_phrasing_and_not_its_letters():
    assert Query("a man").texts == ("a man",)
    assert Query(["a man", "a guy"], exclude="a hat").exclude == ("a hat",)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["k", "rerank", "min_score", "like_id"]),
        st.none() | st.integers() | st.floats() | st.text() | st.booleans(),
    )
)
def test_whatever_a_field_holds_there_is_a_query_or_one_usage_error(fields):
    try:
        query = Query("a man", **fields)
    except UsageError as e:
        assert any(name in str(e) for name in fields)
    else:
        assert 1 <= query.k <= MOST_RESULTS and 0 <= query.rerank <= MOST_RESULTS


def test_pages_of_results_end_where_results_do():
    assert Query("a man", k=10, offset=MOST_RESULTS - 10).offset == MOST_RESULTS - 10
    with pytest.raises(UsageError, match="k \\+ offset is"):
        Query("a man", k=10, offset=MOST_RESULTS - 9)


FILTERS = st.builds(
    Filter,
    folder=st.text(st.characters(exclude_characters="\0")).filter(
        lambda text: text.strip() or not text
    ),
    since=st.none() | st.integers(0, 10**9),
    until=st.none() | st.integers(10**9 + 1, 4 * 10**9),
    camera=st.sampled_from(["", "Nikon D70", "=; '\""]),
)


@given(FILTERS)
def test_a_filter_comes_back_from_what_an_answer_repeats_of_it(filter):
    assert Filter.read(filter.to_dict()) == filter
    assert set(filter.to_dict()) <= set(Query("a man", filter=filter).to_dict())


def test_a_filter_that_cannot_be_read_names_its_flag():
    with pytest.raises(UsageError, match="--since='yesterday': expected a date"):
        Filter.read({"since": "yesterday"}, "--")


def test_a_folder_has_every_spelling_that_the_system_takes(tmp_path, monkeypatch):
    (tmp_path / "real/inner").mkdir(parents=True)
    (tmp_path / "real/other").mkdir()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/link").symlink_to(tmp_path / "real/inner")
    monkeypatch.chdir(tmp_path)
    inner, other = str(tmp_path / "real/inner"), str(tmp_path / "real/other")
    known = [inner, other, inner + "/caf\u00e9", str(tmp_path / "realm")]
    assert set(folders_below("real", known)) == set(known[:3])
    assert folders_below("deep/link", known) == (inner, inner + "/caf\u00e9")
    assert folders_below("deep/link/../other", known) == (other,)
    assert folders_below("real/inner/cafe\u0301", known) == (inner + "/caf\u00e9",)
    assert folders_below("deep/other", known) == ()
