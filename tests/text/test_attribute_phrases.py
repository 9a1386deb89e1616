import numpy as np
import pytest

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.text.attribute_phrases import (
    CaptionEncoder,
    annotate,
    make_tagger,
    phrase_groups,
    tag_words,
)
from cada_jax.text.tokenizer import Tokenizer, clean_caption, find_words

from .test_tokenizer import SPECIAL, golden_captions, golden_tokenizer, write_vocabulary


def groups(tags):
    return phrase_groups(tags.split())


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("DT NN", [0, 1]),
        ("JJ JJ NN", [1, 1, 1]),
        ("JJ CC JJ NN NNS", [1, 1, 1, 1, 1]),  # red and black plaid shirts
        ("NN CC NN", [1, 0, 2]),  # a coat and a hat: two phrases
        ("NNS JJ NN", [1, 1, 1]),  # phrases that touch are one
        ("JJ , JJ NN", [1, 0, 2, 2]),
        ("JJ CC CC JJ", [1, 1, 0, 2]),  # one conjunction only
        ("CC JJ", [0, 1]),
        ("NNP NNPS JJ", [0, 0, 1]),
        ("VBZ IN DT", [0, 0, 0]),
    ],
)
def test_phrase_grammar(tags, expected):
    assert groups(tags) == expected


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
        got = annotate(text, tokenizer, 73, stored, "wordpiece")
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
        assert tagger(record["tokens"]) == record["pos_tags"]


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
    with pytest.raises(MissingFileError, match=r"NLTK_DATA.*data\.tagger=pattern"):
        make_tagger("nltk")


def test_pattern_knows_clothes_and_colours():
    words = "a man in a gray t-shirt and pink knee-length shorts , a white top and a watch".split()
    tags = dict(zip(words, tag_words(words, "pattern"), strict=True))
    assert tags["gray"] == tags["pink"] == tags["white"] == "JJ"
    assert tags["t-shirt"] == tags["top"] == tags["watch"] == "NN"
    assert tags["shorts"] == "NNS"
    assert tag_words([], "pattern") == []


@pytest.fixture
def tokenizer(tmp_path):
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = [*letters, *(f"##{c}" for c in letters), "-", ",", "a", "red", "coat"]
    entries = SPECIAL + list(dict.fromkeys(pieces))
    return Tokenizer(write_vocabulary(tmp_path / "vocab.txt", entries))


def test_all_pieces_of_a_word_share_its_phrase(tokenizer):
    text = "a dark green knee-length coat and a bag"
    got = annotate(text, tokenizer, 60, "pattern", "word")
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


def test_special_tokens_and_padding_are_never_attributes(tokenizer):
    for max_length in (5, 8, 40):  # cut inside a word, at a word, and padded
        got = annotate("red coat and red bag", tokenizer, max_length)
        special = np.isin(got["token_ids"], [tokenizer.special[k] for k in ("cls", "sep", "pad")])
        assert special.sum() >= 2
        assert not got["attribute_mask"][special].any()
        assert not got["phrase_ids"][special].any()
        assert got["attribute_mask"].any() and got["phrase_ids"].max() >= 1


def test_wordpiece_unit_lets_sep_be_masked_as_the_released_code(tokenizer):
    got = annotate("red coat", tokenizer, 12, "pattern", "wordpiece")
    sep = int(np.argmax(got["token_ids"] == tokenizer.special["sep"]))
    assert got["attribute_mask"][sep] and got["phrase_ids"][sep] == 0


def test_phrase_numbers_have_no_gaps_and_stay_below_the_length(tokenizer):
    text = "\u200b \u200b red , coat , red , coat"  # the tokenizer drops what nobody sees
    got = annotate(text, tokenizer, 9, lambda words: ["NN" if w != "," else w for w in words])
    numbers = sorted(set(got["phrase_ids"].tolist()))
    assert numbers == list(range(len(numbers)))


def test_a_caption_without_words_has_no_attributes(tokenizer):
    got = annotate("", tokenizer, 6)
    assert not got["attribute_mask"].any() and not got["phrase_ids"].any()
    assert got["token_ids"].tolist() == [2, 3, 0, 0, 0, 0]


def test_unknown_choices_are_named(tokenizer):
    with pytest.raises(UsageError, match=r"'spacy'.*pattern.*nltk"):
        annotate("a", tokenizer, 5, "spacy")
    with pytest.raises(UsageError, match=r"tag_unit 'char'.*word"):
        annotate("a", tokenizer, 5, tag_unit="char")
