"""How hard negatives are."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from tests.tools.probing.altered import with_params
from tools.probing import (
    negatives,
    truth,
)


def test_ranks_of_a_table_made_by_hand():
    scores = np.array([[9.0, 5.0, 7.0], [1.0, 2.0, 3.0]])
    other = np.array([[False, True, True], [True, True, False]])
    assert negatives.ranks_of(scores, other, np.array([1, 1])).tolist() == [2, 1]


def test_hardest_is_nearer_than_sampled_and_sampled_nearer_than_random(one, monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2, len(one.chosen), 8)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    monkeypatch.setattr(negatives, "features", lambda _: tuple(unit))
    found = negatives.measure_negatives(one)
    assert (found["batch"], found["batches"]) == (16, 3)
    assert found["hardest"]["rank"] == found["hardest"]["nearest"] == 1
    assert 1 < found["sampled"]["rank"] < found["random"]["rank"] / 2
    assert found["random"]["cosine"] < found["sampled"]["cosine"] < found["hardest"]["cosine"]
    assert 0.1 < found["sampling"]["first"] < found["sampling"]["first_5"] <= 1


def test_a_softmax_underflows_where_the_own_similarity_is_104_temperatures_above_the_others():
    pids, batches = np.arange(4), np.arange(4)[None]
    for gap, share in ((7.2, 0.0), (7.3, 1.0)):
        root = np.sqrt(gap).astype(np.float32) * np.eye(4, dtype=np.float32)
        encoded = negatives.Encoded(root, root, pids)
        assert negatives.underflowing(encoded, batches, 0.07) == share
    assert negatives.underflowing(encoded._replace(pids=0 * pids), batches, 0.07) is None


def test_equal_similarities_give_every_other_person_the_same_probability():
    other = np.ones((4, 4), bool)
    other[:, 0] = False
    first, top, choices = negatives._masses(np.full((4, 4), 0.3), other, 0.07).mean(axis=0)
    assert (first, top, choices) == pytest.approx((1 / 3, 1, 3))


def test_a_head_that_always_says_match_is_right_for_pairs_and_wrong_for_negatives(one):
    def always(names, leaf):
        if "itm_head" not in names:
            return leaf
        return jnp.array([0.0, 5.0]) if names[-1] == "bias" else jnp.zeros_like(leaf)

    found = negatives.measure_negatives(with_params(one, always))
    assert found["positive"]["accuracy"] == 1
    for method in negatives.METHODS:
        assert found[method]["accuracy"] == 0
        assert found[method]["loss"] == pytest.approx(np.log1p(np.exp(5)), rel=1e-5)


def test_captions_of_one_person_have_no_negatives(one):
    of_one = one.pids == one.pids[0]
    same = dataclasses.replace(one, chosen=one.chosen[of_one], wrong=one.wrong[of_one])
    found = negatives.measure_negatives(same)
    assert found["sampling"] == {} and not set(found) & set(negatives.METHODS)
    assert 0 <= found["positive"]["accuracy"] <= 1


def test_a_caption_fits_its_own_image_and_hardly_any_of_another_person(one):
    assert truth.share_that_fits(one.truth, one.chosen, one.right) == 1
    assert truth.share_that_fits(one.truth, one.chosen, one.wrong) < 0.2
