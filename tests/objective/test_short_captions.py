"""Captions cut down to a few phrases: what is kept, what is drawn, and nothing else."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.objective.short_captions import MOST_PHRASES, keep_tokens, shorten_captions

PAD, CLS, SEP, LENGTH = 0, 2, 3, 24
shorten = jax.jit(shorten_captions, static_argnums=(2, 3, 4))


def batch_of(rows=64, seed=0):
    """Captions of up to six phrases of one or two tokens with a token between, as 10 + place."""
    rng = np.random.default_rng(seed)
    token_ids = np.zeros((rows, LENGTH), np.int32)
    phrases = np.zeros_like(token_ids)
    for row in range(rows):
        place = 1
        for phrase in range(1, 1 + int(rng.integers(0, 7))):
            place += int(rng.integers(0, 2))  # a word before it
            size = int(rng.integers(1, 3))
            phrases[row, place : place + size] = phrase
            place += size
        token_ids[row, 1:place] = 10 + np.arange(1, place)
        token_ids[row, 0], token_ids[row, place] = CLS, SEP
    return {
        "token_ids": token_ids,
        "phrase_ids": phrases,
        "attribute_mask": phrases > 0,
        "pid": np.arange(rows, dtype=np.int32),
    }


@given(seed=st.integers(0, 2**16), rate=st.sampled_from([0.4, 1.0]))
def test_a_cut_caption_is_one_to_three_of_its_phrases_in_their_order(seed, rate):
    batch = batch_of(seed=seed)
    got = jax.tree.map(np.asarray, shorten(batch, jax.random.key(seed), rate, SEP, PAD))
    assert got.keys() == batch.keys() and (got["pid"] == batch["pid"]).all()
    for before, after, phrases, kept in zip(
        batch["token_ids"], got["token_ids"], batch["phrase_ids"], got["phrase_ids"], strict=True
    ):
        count = int((after != PAD).sum())
        assert after[0] == CLS and after[count - 1] == SEP and (after[count:] == PAD).all()
        words = after[1 : count - 1]
        assert (np.diff(words) > 0).all() and np.isin(words, before).all()
        np.testing.assert_array_equal(kept[1 : count - 1], phrases[words - 10])
        whole = (before == after).all()
        chosen = set(kept.tolist()) - {0}
        assert whole or 1 <= len(chosen) <= MOST_PHRASES
        for phrase in chosen:  # none is cut in two
            assert (kept == phrase).sum() == (phrases == phrase).sum()
    np.testing.assert_array_equal(got["attribute_mask"], got["phrase_ids"] > 0)


def test_the_rate_is_the_share_of_captions_that_are_cut():
    batch = batch_of(4000)
    got = shorten(batch, jax.random.key(1), 0.4, SEP, PAD)
    several = batch["phrase_ids"].max(axis=1) > MOST_PHRASES  # others may be kept whole by chance
    cut = (np.asarray(got["token_ids"]) != batch["token_ids"]).any(axis=1)
    assert cut[several].mean() == pytest.approx(0.4, abs=0.04)
    assert shorten_captions(batch, jax.random.key(1), 0.0, SEP, PAD) is batch


def test_captions_of_one_row_are_drawn_alike_however_the_batch_is_spread():
    """The step cuts the whole batch before it is chunked; sharded, every row draws the same."""
    batch = batch_of(8)
    whole = shorten(batch, jax.random.key(2), 1.0, SEP, PAD)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(batch, jax.NamedSharding(mesh, jax.P("data")))
    for name, value in shorten(spread, jax.random.key(2), 1.0, SEP, PAD).items():
        np.testing.assert_array_equal(value, whole[name])


def test_the_kept_tokens_move_together():
    arrays = {
        "token_ids": np.array([[2, 5, 6, 7, 3, 0]], np.int32),
        "phrase_ids": np.array([[0, 1, 0, 2, 0, 0]], np.int32),
        "attribute_mask": np.array([[False, True, False, True, False, False]]),
    }
    kept = np.array([[True, True, False, True, False, False]])
    got = keep_tokens(arrays, kept, SEP, PAD)
    assert got["token_ids"].tolist() == [[2, 5, 7, 3, 0, 0]]
    assert got["phrase_ids"].tolist() == [[0, 1, 2, 0, 0, 0]]
    assert got["attribute_mask"].tolist() == [[False, True, True, False, False, False]]
