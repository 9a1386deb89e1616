"""Attribute phrases of descriptions as people write them, against fragments marked by hand."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.text.attribute_phrases import find_phrases
from cada_jax.text.taggers import make_tagger
from cada_jax.text.tokenizer import MARKS, clean_caption, split_words
from tools import phrases

GRAMMAR, PATTERN = make_tagger("grammar"), make_tagger("pattern")


def marked(text, tagger=GRAMMAR):
    """The words of a text, its phrases in brackets."""
    _, groups = find_phrases(text, tagger)
    words = zip(split_words(clean_caption(text)), groups, strict=True)
    shown = []
    for number, run in itertools.groupby(words, lambda word: word[1]):
        phrase = " ".join(word for word, _ in run)
        shown.append(f"[{phrase}]" if number else phrase)
    return " ".join(shown)


def test_the_half_that_the_rules_were_made_from_is_read_as_marked():
    _, mistakes = phrases.measure("development", GRAMMAR)
    assert mistakes == []


def test_the_other_half_is_read_nearly_as_well_and_worse_without_the_rules():
    scores, _ = phrases.measure("held_out", GRAMMAR)
    plain, _ = phrases.measure("held_out", PATTERN)
    of_all, without = scores["all"], plain["all"]
    assert of_all.right >= 0.97 * max(of_all.marked, of_all.found)
    assert without.right <= 0.75 * without.marked  # the fragments can tell taggers apart
    for kind, score in scores.items():
        assert score.right >= 0.85 * max(score.marked, score.found), kind


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a long sleeved shirt", "a [long sleeved shirt]"),
        ("he is dressed in black", "he is dressed in [black]"),
        ("a white and she", "a [white] and she"),
        ("He has glasses. Long sleeved shirt", "he has [glasses] [long sleeved shirt]"),
        ('a "big" logo', "a [big logo]"),
    ],
)
def test_what_a_phrase_is(text, expected):
    assert marked(text) == expected


WORDS = (
    "a the her with is and or wearing carries red long white shirt shoes hair left right sleeved "
    "rolled up button pair of t-shirt dark-colored he's , . ; ( don't xyzzy 7"
).split()


@given(words=st.lists(st.sampled_from(WORDS), max_size=20))
def test_a_phrase_never_ends_in_a_conjunction_nor_reaches_over_an_end(words):
    shown = split_words(" ".join(words))
    tags = GRAMMAR.tag(shown)
    groups = GRAMMAR.group(shown, tags)
    numbers = [number for number, _ in itertools.groupby(groups) if number]
    assert numbers == list(range(1, len(numbers) + 1))
    for number in numbers:
        inside = [i for i, of in enumerate(groups) if of == number]
        assert tags[inside[-1]] in ("JJ", "NN", "NNS")
        assert not {shown[i] for i in inside} & (MARKS | {","})


@given(text=st.text("ab .!\"()*#:;~,'-\u00e9\u4e2d\n\x1f\u00a0", max_size=60))
def test_every_word_of_the_cleaned_text_has_one_tag(text):
    tags, groups = find_phrases(text, GRAMMAR)
    words = split_words(clean_caption(text, max_words=1000))
    assert len(tags) == len(groups) == len(words)


def test_a_fragment_is_read_with_its_marks():
    found = list(phrases.read_fragments("development"))
    assert len(found) > 200
    sentence = next(f for f in found if f.text.startswith("he wears glasses."))
    assert sentence.marked == {(2, 3), (3, 6), (6, 8)}
