"""Other worlds of generated people: what differs from home, and what must hold in each."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cada_jax.data.datasets.synthetic import lexicon
from cada_jax.data.datasets.synthetic.asides import absences, comparisons
from cada_jax.data.datasets.synthetic.bound_twins import BOUND, swap_colors
from cada_jax.data.datasets.synthetic.camera import visible
from cada_jax.data.datasets.synthetic.captions import MAX_PIECES, MAX_WORDS, MIN_WORDS, count_pieces
from cada_jax.data.datasets.synthetic.identity import COLORS, NONE, is_valid, sample_identity
from cada_jax.data.datasets.synthetic.painter import luminance
from cada_jax.data.datasets.synthetic.people import VARIANTS, make_captions, make_identities
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from cada_jax.text.tokenizer import Tokenizer, clean_caption

WORLDS = ("demo", "abroad", "crowd")


def said_of(variant, persons=60):
    """(identity, shot, caption) of the first persons of a variant, none of them drawn."""
    settings = replace(VARIANTS[variant], train_persons=persons)
    found = []
    for person, identity in enumerate(make_identities(settings, "train")):
        for image in range(3):
            shot, captions = make_captions(settings, "train", identity, person, image)
            found += [(identity, shot, caption) for caption in captions]
    return found


@pytest.fixture(scope="module")
def said():
    return {variant: said_of(variant) for variant in WORLDS}


# What holds in every world


@pytest.mark.parametrize("variant", WORLDS)
def test_captions_state_only_what_the_image_shows(said, variant):
    for identity, shot, caption in said[variant]:
        seen = visible(identity, shot)
        assert all(seen.get(field) == value for field, value in caption.stated), caption


@pytest.mark.parametrize("variant", WORLDS)
def test_captions_are_as_long_as_promised_in_words_and_in_pieces_of_the_vocabulary(said, variant):
    tokenizer = Tokenizer(VOCAB_PATH)
    for _, _, caption in said[variant]:
        assert MIN_WORDS <= len(caption.text.split()) <= MAX_WORDS
        assert len(tokenizer.split(clean_caption(caption.text))[0]) <= MAX_PIECES, caption.text


@pytest.mark.parametrize("word", ["jacket", *lexicon.PIECES])
def test_pieces_are_counted_as_the_tokenizer_counts_them(word):
    assert count_pieces(word) == len(Tokenizer(VOCAB_PATH).split(word)[0])


# Abroad


# The crowd


def bag_of_colors(identity):
    return Counter(getattr(identity, field) for field in BOUND)


def test_a_bound_twin_has_the_same_things_in_the_same_colours_exchanged():
    rng = np.random.default_rng(0)
    moved = Counter()
    for _ in range(300):
        base = sample_identity(rng)
        twin = swap_colors(rng, base)
        if twin is None:
            continue
        changed = [f for f in base._fields if getattr(base, f) != getattr(twin, f)]
        assert set(changed) <= set(BOUND) and is_valid(twin)
        assert bag_of_colors(base) == bag_of_colors(twin)
        moved[len(changed)] += 1
    assert set(moved) == {2, 3} and min(moved.values()) > 50


def test_in_a_crowd_everybody_has_somebody_with_the_same_bag_of_words():
    persons = make_identities(VARIANTS["crowd"], "val")
    kinds = [
        (*(v for f, v in zip(p._fields, p, strict=True) if f not in BOUND), *sorted(p))
        for p in persons
    ]
    counts = Counter(kinds)
    assert len(set(persons)) == len(persons)
    assert sum(counts[kind] > 1 for kind in kinds) >= len(persons) - 2  # the last group is cut
    assert max(counts.values()) <= 6


def test_absences_and_comparisons_are_true():
    first = lambda options: options[0]  # noqa: E731
    for identity, shot, _ in said_of("crowd", 30):
        seen = visible(identity, shot)
        for aside in absences(seen, first):
            assert all(seen[field] == NONE for field, _ in aside.stated)
        for aside in comparisons(seen, first):
            a, how, b = re.fullmatch(r"has (?:a )?(.+) (\w+) than the (.+)", aside.text).groups()
            fields = {seen[f]: f for f in ("outer", "top", "bottom", "shoes", "bag") if f in seen}
            one, other = (luminance(COLORS[seen[fields[kind] + "_color"]]) for kind in (a, b))
            assert (one > other) == (how == "lighter")
