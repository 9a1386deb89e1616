"""What may be asked of a gallery, and how senseless values are refused."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cada_jax.common.errors import UsageError
from cada_jax.retrieval.query import MOST_PHRASINGS, MOST_RESULTS, Query, Where

# What a field says of a value of the wrong type is what is tested here.
pytestmark = pytest.mark.usefixtures("unchecked_shapes")


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({}, "nothing to search for"),
        ({"texts": ()}, "nothing to search for"),
        ({"exclude": ("a hat",)}, "nothing to search for"),
        ({"texts": ("",)}, "empty caption ''"),
        ({"texts": ("a man", "?!")}, "expected at least one word"),
        ({"texts": ("a man", 3)}, "not a string but int"),
        ({"texts": ("a man",) * (MOST_PHRASINGS + 1)}, "texts has 17 descriptions"),
        ({"texts": ("\ud800 man",)}, "half a character"),
        ({"texts": "a man", "exclude": "..."}, "expected at least one word"),
        ({"texts": "a man", "exclude": "a hat", "rerank": 0}, "exclude needs the decoder"),
        ({"texts": "a man", "k": 0}, "k is 0, expected 1 to"),
        ({"texts": "a man", "k": -1}, "k is -1, expected 1 to"),
        ({"texts": "a man", "k": 1_000_000}, f"expected 1 to {MOST_RESULTS}"),
        ({"texts": "a man", "k": True}, "k is True"),
        ({"texts": "a man", "k": 2.5}, "k is 2.5"),
        ({"texts": "a man", "rerank": -1}, "rerank is -1, expected 0 to"),
        ({"texts": "a man", "min_score": math.nan}, "min_score is nan"),
        ({"texts": "a man", "min_score": "high"}, "min_score is 'high'"),
        ({"like": "a.jpg", "like_id": "00"}, "like or like_id, not both"),
        ({"like_id": 7}, "like_id is 7"),
    ],
)
def test_a_senseless_query_is_one_error_that_names_the_field(fields, part):
    with pytest.raises(UsageError, match=part) as caught:
        Query(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"folder": "a\0b"}, "folder is"),
        ({"camera": 3}, "camera is 3"),
        ({"since": math.inf}, "since is inf"),
        ({"until": "yesterday"}, "until is 'yesterday'"),
        ({"since": 5.0, "until": 5.0}, "expected until to be later"),
    ],
)
def test_a_senseless_filter_is_one_error_that_names_the_field(fields, part):
    with pytest.raises(UsageError, match=part):
        Where(**fields)


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


def test_only_an_empty_filter_admits_all():
    assert Where().admits_all
    assert not any(Where(**f).admits_all for f in ({"folder": "a"}, {"since": 0.0}, {"until": 1.0}))
