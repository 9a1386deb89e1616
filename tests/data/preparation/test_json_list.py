"""A list that is something else is named for what it is, with what to do."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.common.errors import UsageError
from cada_jax.data.preparation.json_list import read_list, shorten

ENTRIES = [{"id": 1, "split": "train"}, {"id": 2, "split": "test"}]
TEXT = json.dumps(ENTRIES, indent=1)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (gzip.compress(TEXT.encode(), mtime=0), "compressed by gzip: unpack it (gunzip)"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"BZh9rest", "bzip2"),
        (b"<!DOCTYPE html><html>", "web page or XML"),
        (b"\xef\xbb\xbf <?xml version='1.0'?>", "web page or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (TEXT.encode("utf-16"), "is UTF-16 text"),
        (TEXT.encode("utf-16-le"), "is UTF-16 or UTF-32 text"),
        (TEXT.encode("utf-16-be"), "is UTF-16 or UTF-32 text"),
        (TEXT.encode("utf-32"), "is UTF-32 text"),
        ('["caf\u00e9"]'.encode("latin-1"), "is not UTF-8 text (byte 0xe9 at 5)"),
        (b'{"id": 1}\n{"id": 2}\n', "is JSON Lines"),
        (b'{"train": [1], "test": [2]}', "an object of lists under 'train', 'test'"),
        (b'{"id": 1}', "a JSON object with the keys 'id'"),
        (b"{}", "a JSON object"),
        (b"[]", "is an empty list"),
        (b'"text"', "is a JSON str"),
        (b"null", "is a JSON NoneType"),
        (TEXT[:-9].encode(), "ends in the middle"),
        (b"[{", "ends in the middle"),
        (b'[{"id": 1,}]', "is not JSON"),
        (b'[{"id": 1, "id": 2}]', "the key 'id' stands twice"),
        (b"[" * 100_000, "is not JSON"),
        (b"[" + b"9" * 5000 + b"]", "is not JSON"),
        (b"id,split\n1,train\n", "is not JSON"),
        (b"\x80\x04\x95pickle", "pickle"),
    ],
)
def test_each_kind_of_file_is_named(tmp_path, data, named):
    path = tmp_path / "list.json"
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        read_list(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and named in message
    assert len(message.splitlines()) == 1 and len(message) < 400


@pytest.mark.parametrize("text", [TEXT, "\ufeff" + TEXT, "\n " + TEXT + "\n\n"])
def test_a_list_is_read_with_or_without_a_byte_order_mark(tmp_path, text):
    path = tmp_path / "list.json"
    path.write_text(text, encoding="utf-8")
    assert read_list(path) == ENTRIES


def test_a_folder_of_that_name_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_list(tmp_path)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_list_or_one_line_that_says_why_not(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("list") / "list.json"
    path.write_bytes(data)
    try:
        assert read_list(path) == json.loads(data.decode("utf-8-sig"))
    except UsageError as err:
        assert len(str(err).splitlines()) == 1


@given(value=st.recursive(st.text() | st.integers(), st.lists, max_leaves=9))
def test_values_are_shown_in_one_short_line_that_can_be_printed(value):
    text = shorten(value)
    text.encode()
    assert len(text) <= 80 and len(text.splitlines()) <= 1
