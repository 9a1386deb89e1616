"""Dates of the command line and of requests, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.common import dates
from cada_jax.common.errors import UsageError


@given(st.integers(0, 4_000_000_000))
def test_a_time_comes_back_from_its_text(seconds):
    assert dates.start(dates.local_iso(seconds)) == dates.end(dates.local_iso(seconds)) == seconds


@given(st.text())
def test_whatever_is_given_as_a_date_is_one_or_one_error(text):
    for read in (dates.start, dates.end):
        try:
            assert isinstance(read(text), float)
        except UsageError as e:
            assert "expected a date" in str(e) and "\n" not in str(e)


def test_the_end_of_a_day_is_the_beginning_of_the_next():
    assert dates.end("2026-05-31") == dates.start("2026-06-01")
    assert dates.end("2026-05-31T18:00") == dates.start("2026-05-31T18:00")


@pytest.mark.parametrize("seconds", [None, 1e30, float("nan")])
def test_a_time_without_a_date_is_shown_as_nothing(seconds):
    assert dates.local_iso(seconds) == ""
