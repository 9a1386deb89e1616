"""Names as they are shown, and the table of results."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.gallery.printable import printable
from cada_jax.gallery.results import table
from cada_jax.retrieval.searchable import Picture
from cada_jax.retriever import Hit


def hit(path, score=1.0, match=None, box=None):
    return Hit(Picture("0" * 32, path, box=box), 0.5, match, score)


@given(st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_whatever_a_file_is_called_nothing_unseen_is_shown(name):
    shown = printable(name)
    assert shown.isprintable()
    shown.encode()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("größe 人物.jpg", "größe 人物.jpg"),
        ("a\nb\x1b[2J.jpg", r"a\nb\x1b[2J.jpg"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\udcff.jpg", r"\xff.jpg"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_names_are_shown_as_people_read_them(name, shown):
    assert printable(name) == shown


def test_a_table_has_a_line_for_every_result_and_boxes_where_there_are_some():
    lines = table([hit("a.jpg"), hit("b\n.jpg", match=-1.5)]).splitlines()
    assert lines[0].split() == ["score", "match", "similarity", "path"]
    assert [line.split() for line in lines[1:]] == [
        ["1", "1.00", "0.500", "a.jpg"],
        ["2", "1.00", "-1.50", "0.500", r"b\n.jpg"],
    ]
    lines = table([hit("a.jpg"), hit("b.jpg", box=(1.4, 2.0, 30.6, 40.0))]).splitlines()
    assert "box" in lines[0] and lines[2].split()[-2:] == ["1,2,31,40", "b.jpg"]
