"""Masked words beside the right image, a wrong one and none."""

import numpy as np
import pytest

from tests.tools.probing.altered import with_params
from tools.probing import (
    masked_words,
)


def cross_attention(scale):
    """What makes the attribute decoder's cross-attention give `scale` times as much."""

    def change(names, leaf):
        of_cross = "attribute_decoder" in names and "cross" in names and "out" in names
        return scale * leaf if of_cross else leaf

    return change


def test_a_decoder_that_ignores_images_answers_the_same_beside_any(one, words):
    found = masked_words.measure_masked(with_params(one, cross_attention(0.0)), words)
    for way in ("trained", "alone"):
        assert {"colour", "garment", "all"} <= set(found[way]["classes"])
        for part in ("classes", "attributes"):
            for figures in found[way][part].values():
                assert figures["right"] == figures["wrong"] == figures["none"]


def test_a_decoder_that_looks_answers_differently(one, words):
    found = masked_words.measure_masked(with_params(one, cross_attention(50.0)), words)
    losses = [found["alone"]["classes"]["all"][image]["loss"] for image in masked_words.IMAGES]
    assert len({round(loss, 6) for loss in losses}) == 3


def test_every_phrase_is_masked_alone_and_none_is_left_out(one):
    phrase_ids = one.split.phrase_ids
    caption, masked = masked_words.one_phrase_each(phrase_ids)
    assert len(caption) == sum(len(set(row[row > 0])) for row in phrase_ids)
    assert all(len(set(phrase_ids[c][m])) == 1 for c, m in zip(caption, masked, strict=True))
    together = np.zeros_like(phrase_ids)
    np.add.at(together, caption, masked.astype(int))
    assert (together == (phrase_ids > 0)).all()


def test_masks_of_training_are_whole_phrases_at_the_rate_of_the_configuration(one):
    masked, phrase_ids = masked_words.masks_of_training(one), one.split.phrase_ids
    caption, alone = masked_words.one_phrase_each(phrase_ids)
    share = [(masked[c] & m).sum() / m.sum() for c, m in zip(caption, alone, strict=True)]
    assert set(share) == {0.0, 1.0}
    assert abs(np.mean(share) - one.retriever.config.ara.phrase_rate) < 0.1
    assert not masked[phrase_ids == 0].any()


def test_figures_of_a_table_made_by_hand():
    truth_ids, predicted = np.array([3, 3, 4, 5]), np.array([3, 4, 4, 3])
    answers = {"right": (predicted, np.array([0.0, 1.0, 2.0, 9.0]))}
    colours = np.array([-1, -1, -1, 0, 0, 1])  # 3 and 4 name the same colour
    chosen = np.array([True, True, True, False])
    found = masked_words._figures(truth_ids, answers, chosen, colours)
    assert found["count"] == 3 and found["guess"] == pytest.approx(2 / 3)
    assert found["right"] == {"accuracy": pytest.approx(2 / 3), "loss": 1.0, "same": 1.0}
    other = masked_words._figures(truth_ids, answers, ~chosen, colours)
    assert other["right"] == {"accuracy": 0.0, "loss": 9.0, "same": 0.0}


def test_two_words_for_one_colour_are_the_same_colour(one):
    number = masked_words._colour_of_tokens(one)
    vocabulary = one.retriever.tokenizer.vocabulary
    red, scarlet, navy, boots = (number[vocabulary[w]] for w in ("red", "scarlet", "navy", "boots"))
    assert red == scarlet != navy and boots == -1 != red
