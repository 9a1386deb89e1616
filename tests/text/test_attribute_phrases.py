import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.common.errors import MissingFileError
from cada_jax.text.attribute_phrases import (
    MOST_WORDS,
    CaptionEncoder,
    annotate,
    caption_problem,
    find_entity,
)
from cada_jax.text.taggers import (
    ATTRIBUTE_TAGS,
    Tagger,
    make_tagger,
    phrase_groups,
)
from cada_jax.text.tokenizer import Tokenizer, clean_caption, find_words

from .test_tokenizer import SPECIAL, golden_captions, golden_tokenizer, write_vocabulary


def test_phrases_and_maskable_tokens_are_those_of_the_released_code(golden, tmp_path):
    """Given the tags stored with them, so that NLTK's data is not needed."""
    tokenizer = golden_tokenizer(golden, tmp_path)
    arrays = np.load(golden / "e_attr.npz")
    records = golden_captions(golden)
    assert len(records) == 32
    for i, record in enumerate(records):

        def stored(pieces, record=record):
            assert list(pieces) == record["tokens"]
            return record["pos_tags"]

        text = clean_caption(record["caption"])
        got = annotate(text, tokenizer, 73, Tagger(stored), "wordpiece")
        np.testing.assert_array_equal(got["token_ids"], arrays["ids"][i])
        np.testing.assert_array_equal(got["attribute_mask"], arrays["eligible_false"][i])
        # The released loop ends before position 71, the last before [SEP] in a full caption; the
        # phrase grammar has no such end.
        expected = arrays["groups_true"][i].copy()
        assert expected[71] == 0
        if got["phrase_ids"][71]:
            assert record["pos_tags"][70] in ("NN", "NNS") and expected[70] > 0
            expected[71] = expected[70]
        np.testing.assert_array_equal(got["phrase_ids"], expected)


def test_nltk_gives_the_tags_of_the_released_code(golden):
    try:
        tagger = make_tagger("nltk")
    except MissingFileError as err:
        pytest.skip(str(err))
    for record in golden_captions(golden):
        assert tagger.tag(record["tokens"]) == record["pos_tags"]


def test_the_released_variant_stores_the_masks_of_the_released_code(golden, tmp_path, load_config):
    """From the caption as published to what the records hold, by the variant's own settings."""
    data = load_config("rstp", "released").data
    tokenizer = golden_tokenizer(golden, tmp_path)
    try:
        encoder = CaptionEncoder(tokenizer, data.max_length, data.tagger, data.tag_unit)
    except MissingFileError as err:
        pytest.skip(str(err))
    arrays = np.load(golden / "e_attr.npz")
    captions = [record["caption"] for record in golden_captions(golden)]
    for i, stored in enumerate(encoder.encode(captions, "x.jpg")):
        np.testing.assert_array_equal(stored["token_ids"], arrays["ids"][i])
        np.testing.assert_array_equal(stored["attribute_mask"], arrays["eligible_false"][i])


def test_missing_nltk_data_is_explained(monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(MissingFileError, match=r"NLTK_DATA.*data\.tagger=grammar"):
        make_tagger("nltk")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = [*letters, *(f"##{c}" for c in letters), "-", ",", "a", "red", "coat"]
    entries = SPECIAL + list(dict.fromkeys(pieces))
    return Tokenizer(write_vocabulary(tmp_path_factory.mktemp("words") / "vocab.txt", entries))


def test_all_pieces_of_a_word_share_its_phrase(tokenizer):
    text = "a dark green knee-length coat and a bag"
    got = annotate(text, tokenizer, 60, make_tagger("grammar"))
    _, words = tokenizer.encode(text, 60)
    for word in range(len(find_words(text))):
        assert len(set(got["phrase_ids"][words == word])) == 1
        assert len(set(got["attribute_mask"][words == word])) == 1
    spans = [text[s:e] for s, e in find_words(text)]
    phrase_of = {spans[w]: int(got["phrase_ids"][words == w][0]) for w in range(len(spans))}
    assert phrase_of == {
        "a": 0,
        "dark": 1,
        "green": 1,
        "knee-length": 1,
        "coat": 1,
        "and": 0,
        "bag": 2,
    }


TAGS = st.lists(st.sampled_from(["JJ", "NN", "NNS", "CC", "NNP", "NNPS", "DT", ","]), max_size=30)


@given(tags=TAGS)
def test_phrases_are_the_longest_runs_of_the_grammar(tags):
    """Against the grammar as a regular expression over one letter a tag."""
    letter = {"JJ": "j", "NN": "n", "NNS": "n", "CC": "c"}
    text = "".join(letter.get(tag, ".") for tag in tags)
    expected = [0] * len(tags)
    for number, match in enumerate(re.finditer(r"(?:jc|[jn])+", text), 1):
        expected[match.start() : match.end()] = [number] * len(match.group())
    assert phrase_groups(tags, tags) == expected


WORDS = st.text("ared coat,-\u200b\u00e9\u4e2d\x00'", max_size=60)


@given(text=WORDS, length=st.integers(3, 40), unit=st.sampled_from(["word", "wordpiece"]))
def test_annotation_marks_pieces_by_the_tags_of_their_words(tokenizer, text, length, unit):
    text = clean_caption(text)
    given_tags = []

    def tagger(words):
        tags = ["JJ", "NN", "CC", "DT", "NNP"]
        given_tags[:] = [tags[sum(map(ord, word)) % len(tags)] for word in words]
        return list(given_tags)

    got = annotate(text, tokenizer, length, Tagger(tagger), unit)
    pieces, ids, words = tokenizer.split(text)
    n = min(len(pieces), length - 2)
    special = tokenizer.special
    expected = [special["cls"], *ids[:n], special["sep"], *[special["pad"]] * (length - 2 - n)]
    assert got["token_ids"].tolist() == expected
    of_piece = [given_tags[w] for w in words[:n]] if unit == "word" else given_tags[:n]
    attributes = [tag in ATTRIBUTE_TAGS for tag in of_piece]
    assert got["attribute_mask"][1 : n + 1].tolist() == attributes
    phrases = got["phrase_ids"]
    assert not got["attribute_mask"][0] and not got["attribute_mask"][n + 2 :].any()
    assert got["attribute_mask"][n + 1] == (unit == "wordpiece")
    assert phrases[0] == 0 and not phrases[n + 1 :].any() and phrases.max() < length
    numbers = [number for number in dict.fromkeys(phrases.tolist()) if number]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        (7, "not a string but int: 7"),
        ("\u200b\u200c\ufeff", "at least one word"),
        ("a \ud83d man", "half a character"),
        ("man " * (MOST_WORDS + 1), "501 words"),
    ],
)
def test_captions_that_cannot_serve_are_refused_in_one_short_line(caption, named):
    problem = caption_problem(caption)
    assert named in problem and len(problem) < 200 and len(problem.splitlines()) == 1
    problem.encode()


@pytest.mark.parametrize(
    "caption",
    [
        "a\tman\r\nin\u00a0black",
        "\u7a7f\u7ea2\u8863\u7684\u4eba",
        "R&D; AT&T",
    ],
)
def test_captions_with_a_word_are_accepted(caption):
    assert caption_problem(caption) is None and find_entity(caption) is None


@pytest.mark.parametrize(
    ("caption", "entity"),
    [
        ("a top &amp; a bag", "&amp;"),
        ("it&#x27;s", "&#x27;"),
        ("salt & pepper; a man", None),
    ],
)
def test_html_entities_are_found(caption, entity):
    assert find_entity(caption) == entity
