"""From the fields of an address to a query, or to one sentence."""

import datetime
import string
from urllib.parse import quote_from_bytes, urlencode

import hypothesis
import hypothesis.strategies as st
import pytest

from cada_jax.gallery.server.fields import checked, echo, field_model, gather, parse_time, to_query
from cada_jax.gallery.server.limits import Limits
from cada_jax.gallery.server.problems import Problem
from cada_jax.gallery.server.search_routes import _pairs
from cada_jax.retrieval.query import Query, Where

MODEL = field_model(Limits())
NAMES = ["q", "not", "like", "folder", "since", "until", "camera", "k", "rerank", "min_score"]


def parsed(query_string: bytes) -> Query:
    return to_query(checked(MODEL, gather(_pairs(query_string))))


def seconds(*date) -> float:
    return datetime.datetime(*date).timestamp()  # local time


def test_every_field_reaches_the_query():
    fields = [
        ("q", "a red coat"),
        ("q", "a coat, red"),
        ("not", "umbrella"),
        ("folder", "/photos/a+b #1?"),
        ("since", "2026-05-01"),
        ("until", "2026-05-31"),
        ("camera", "Nikon D70; left"),
        ("k", "7"),
        ("rerank", "9"),
        ("min_score", "-0.5"),
    ]
    query = parsed(urlencode(fields).encode())
    assert query == Query(
        texts=("a red coat", "a coat, red"),
        exclude=("umbrella",),
        where=Where("/photos/a+b #1?", seconds(2026, 5, 1), seconds(2026, 6, 1), "Nikon D70; left"),
        k=7,
        rerank=9,
        min_score=-0.5,
    )


def test_empty_boxes_of_a_form_filter_nothing():
    query = parsed(b"q=coat&folder=&since=&until=&camera=&min_score=&like=")
    assert query == Query(texts=("coat",))


def test_an_echo_asks_the_same_again():
    query = parsed(b"q=coat&not=bag&since=2026-05-01T10:30&until=2026-05-31&k=3&min_score=0.25")
    said = echo(query)
    fields = [("q", said.q[0]), ("not", said.exclude[0]), ("since", said.since)]
    fields += [("until", said.until), ("k", said.k), ("min_score", said.min_score)]
    assert parsed(urlencode(fields).encode()) == query


@pytest.mark.parametrize(
    ("text", "end_of_day", "expected"),
    [
        ("2026-05-31", False, seconds(2026, 5, 31)),
        ("2026-05-31", True, seconds(2026, 6, 1)),
        ("20260531", True, seconds(2026, 6, 1)),
        ("2026-05-31T18:00", True, seconds(2026, 5, 31, 18)),
        ("2026-05-31 18:00:05", False, seconds(2026, 5, 31, 18, 0, 5)),
        ("2026-05-31T18:00Z", False, 1780250400.0),
        ("2026-05-31T18:00+02:00", False, 1780243200.0),
        ("  ", True, None),
    ],
)
def test_dates_and_times_are_local_unless_they_say_otherwise(text, end_of_day, expected):
    assert parse_time("since", text, end_of_day) == expected


@pytest.mark.parametrize(
    "text", ["x", "2026", "2026-13-01", "31.5.2026", "9999-12-31", "1e9", "20:00"]
)
def test_what_is_no_date_is_refused(text):
    with pytest.raises(Problem, match="until=.*: expected a date") as raised:
        parse_time("until", text, True)
    assert raised.value.status == 400


VALUE = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["0", "-1", "1e9", "nan", "inf", "", " ", "10", "2026-01-01", "coat"]),
    st.text(string.printable, max_size=3000),
)


@hypothesis.given(st.lists(st.tuples(st.sampled_from([*NAMES, "other", ""]), VALUE), max_size=12))
def test_any_fields_are_a_query_or_one_sentence(fields):
    encoded = urlencode(fields, errors="replace").encode()
    try:
        query = parsed(encoded)
    except Problem as problem:
        assert problem.status in (400, 422)
        assert problem.message.isprintable() and len(problem.message) < 400
    else:
        assert query.texts or query.like_id
        assert all(text.strip() for text in (*query.texts, *query.exclude))


@hypothesis.given(st.binary(max_size=60))
def test_any_bytes_are_a_query_or_one_sentence(data):
    for query_string in (quote_from_bytes(data, safe="&=+%").encode(), b"q=" + data):
        try:
            parsed(query_string)
        except Problem as problem:
            assert problem.status in (400, 422) and problem.message.isprintable()
