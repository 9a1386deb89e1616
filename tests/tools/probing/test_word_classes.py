"""Classes of words."""

import numpy as np
import pytest

from tools.probing import (
    word_classes,
)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("red", "colour"),
        ("dark-blue", "colour"),
        ("jeans", "garment"),
        ("t-shirt", "garment"),
        ("striped", "other attribute word"),
        ("man", "other attribute word"),
    ],
)
def test_attribute_words_are_sorted_by_lists_and_others_are_function_words(word, expected):
    assert word_classes.class_of(word, True) == expected
    assert word_classes.class_of(word, False) == "function word"


def test_every_token_has_the_class_of_its_word_and_padding_has_none(one, words):
    tokens = one.retriever.config.model.tokens
    names = np.array([*word_classes.CLASSES, None], object)[words.kind]
    assert ((names == None) == (one.token_ids == tokens.pad)).all()  # noqa: E711
    assert ((names == "[CLS]") == (one.token_ids == tokens.cls)).all()
    assert ((names == "[SEP]") == (one.token_ids == tokens.sep)).all()
    attribute = (one.split.phrase_ids > 0) | one.split.attribute_mask
    assert ((names == "function word") == ((words.index >= 0) & ~attribute)).all()
    assert set(words.word[names == "colour"]) <= word_classes.COLOUR_WORDS


def test_words_of_the_generated_captions_tell_of_their_attribute():
    told = word_classes.attributes_of_words()
    expected = {"striped": "top_pattern", "scarlet": "color", "boots": "shoes", "lady": "gender"}
    assert {word: told[word] for word in expected} == expected
    assert told["shoulder"] == told["long"] == word_classes.SEVERAL
