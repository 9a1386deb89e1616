"""Vocabulary files: found, read and compared, and named where they are something else."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.text import vocabulary
from cada_jax.text.vocabulary import (
    check_same_ids,
    check_same_vocabulary,
    find_vocabulary,
    read_vocabulary,
    vocabulary_digest,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = "\n".join([*SPECIAL, "a", "caf\u00e9", "##s"]) + "\n"


@pytest.fixture
def write(tmp_path):
    def write(data: bytes | str, name: str = "vocab.txt"):
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


@pytest.mark.parametrize(
    "data",
    [
        TEXT.rstrip("\n"),
        TEXT + "\n\n",
        "\ufeff" + TEXT.replace("\n", "\r\n"),
    ],
)
def test_what_editors_do_to_a_file_changes_neither_ids_nor_digest(write, data):
    path = write(data)
    ids = read_vocabulary(path)
    assert list(ids) == [*TEXT.split(), "[DEC]", "[ENC]"] and ids["caf\u00e9"] == 6
    assert vocabulary_digest(path) == hashlib.sha256(TEXT.encode()).hexdigest()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ("just\nwords\n", "lacks [PAD]"),
        (TEXT + "a\n", "the entry 'a' more than once"),
        (TEXT.encode("utf-16"), "cannot be read (UnicodeDecodeError"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_one_line(write, data, named):
    path = write(data)
    with pytest.raises(UsageError) as caught:
        read_vocabulary(path)
    message = str(caught.value)
    assert str(path) in message and named in message and len(message.splitlines()) == 1


@pytest.mark.parametrize("name", ["x" * 300, "~nobody_of_this_name/vocab.txt", "a\0b"])
def test_a_name_that_is_no_path_is_looked_for_on_the_hub(monkeypatch, name):
    monkeypatch.setattr(vocabulary, "_hub_file", lambda asked: ("hub", asked))
    assert find_vocabulary(name) == ("hub", name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"gone\.txt: expected a WordPiece vocabulary"):
        read_vocabulary(tmp_path / "gone.txt")


def test_two_vocabularies_of_one_size_are_told_apart(write):
    ours = write(TEXT, "ours.txt")
    swapped = write(TEXT.replace("a\ncaf\u00e9", "caf\u00e9\na"), "theirs.txt")
    assert len(read_vocabulary(ours)) == len(read_vocabulary(swapped))
    with pytest.raises(UsageError, match="different vocabularies"):
        check_same_vocabulary({"cuhk": ours, "rstp": swapped})
    with pytest.raises(UsageError, match="id 5 is 'caf\u00e9' in .*theirs.txt and 'a' in"):
        check_same_ids(ours, swapped, "model")
    check_same_ids(ours, write(TEXT + "[DEC]\n[ENC]\n", "longer.txt"), "model")


@given(words=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1)))
def test_every_line_is_one_entry(tmp_path_factory, words):
    """Other characters that Python takes for line ends are part of an entry."""
    words = [w for w in dict.fromkeys(words) if w not in (*SPECIAL, "[DEC]", "[ENC]")]
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, *words]) + "\n", encoding="utf-8", newline="\n")
    assert list(read_vocabulary(path)) == [*SPECIAL, *words, "[DEC]", "[ENC]"]
    check_same_ids(path, path, "itself")
