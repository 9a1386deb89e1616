"""Names as they are shown, tables in any width, dates."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.common.errors import UsageError
from cada_jax.gallery.moments import local_iso, seconds_of
from cada_jax.gallery.results.printable import columns, printable, shortened
from cada_jax.gallery.results.table import table
from cada_jax.retrieval.searchable import Picture
from cada_jax.retriever import Hit


def hit(path, score=1.0, match=None, box=None):
    return Hit(-1, path, -1, 0.5, match, score, Picture("0" * 32, path, box=box))


@given(st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_whatever_a_file_is_called_nothing_unseen_is_shown(name):
    shown = printable(name)
    assert all(
        unicodedata.category(c)[0] not in "CZ"
        or c.isprintable()
        or c in "\u3000\u00a0"
        or unicodedata.category(c) == "Zs"
        for c in shown
    )
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)
    shown.encode()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.jpg", "plain name.jpg"),
        ("größe 人物.jpg", "größe 人物.jpg"),
        ("a\nb\x1b[2J.jpg", r"a\nb\x1b[2J.jpg"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\udcff.jpg", r"\xff.jpg"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_names_are_shown_as_people_read_them(name, shown):
    assert printable(name) == shown


@given(st.text(max_size=60).map(printable), st.integers(0, 80))
def test_a_shortened_name_fits_and_keeps_its_end(name, width):
    short = shortened(name, width)
    assert columns(short) <= max(width, 0)
    assert short == name or name.endswith(short[3:])


@given(
    st.lists(st.tuples(st.text(max_size=200), st.none() | st.floats(-9, 9)), max_size=5),
    st.integers(60, 300),
)
def test_a_table_fits_the_terminal(rows, width):
    lines = table([hit(name, match=match) for name, match in rows], width).split("\n")
    assert len(lines) == len(rows) + 1
    assert max(map(columns, lines)) <= width


def test_without_a_terminal_paths_stay_whole():
    path = "/very" * 80 + "/a.jpg"
    assert path in table([hit(path)], None)
    assert path not in table([hit(path)], 80)


def test_boxes_have_a_column_where_there_is_one():
    assert "box" not in table([hit("a.jpg")], 80)
    lines = table([hit("a.jpg"), hit("b.jpg", box=(1.4, 2.0, 30.6, 40.0))], 80).splitlines()
    assert lines[0].endswith("box") and lines[2].endswith("1,2,31,40")


@given(st.integers(0, 4_000_000_000))
def test_a_time_comes_back_from_its_text(seconds):
    assert seconds_of("--since", local_iso(seconds)) == seconds


@given(st.text())
def test_whatever_is_given_as_a_date_is_one_or_one_error(text):
    try:
        assert isinstance(seconds_of("--since", text), float)
    except UsageError as e:
        assert "expected a date" in str(e) and "\n" not in str(e)


def test_a_time_without_a_date_is_shown_as_nothing():
    assert local_iso(1e30) == "" and local_iso(float("nan")) == ""
