"""Phrases are masked whole, at their rate, and nothing else is masked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.objective.phrase_masking import draw_mask

PHRASES = jnp.array([[0, 1, 1, 0, 2, 2, 2, 0, 3, 0]] * 500, jnp.int32)
ATTRIBUTES = PHRASES > 0


def test_phrases_are_masked_whole_and_independently():
    masked = np.asarray(draw_mask(jax.random.key(0), "phrase", PHRASES, ATTRIBUTES, 0.5))
    for columns in ((1, 2), (4, 5, 6)):
        group = masked[:, columns]
        assert np.all(group.all(1) == group.any(1))
    agree = np.mean(masked[:, 1] == masked[:, 4])
    assert 0.4 < agree < 0.6
    assert not masked[:, [0, 3, 7, 9]].any()


@pytest.mark.parametrize(("method", "rate"), [("phrase", 0.8), ("token", 0.4)])
def test_rates(method, rate):
    masked = np.asarray(draw_mask(jax.random.key(1), method, PHRASES, ATTRIBUTES))
    assert abs(masked[:, [1, 4, 8]].mean() - rate) < 0.04
    assert not masked[~np.asarray(ATTRIBUTES)].any()


def test_tokens_of_a_phrase_are_masked_one_by_one_by_token():
    masked = np.asarray(draw_mask(jax.random.key(2), "token", PHRASES, ATTRIBUTES))
    assert np.any(masked[:, 1] != masked[:, 2])


def test_keys_decide():
    one, two = jax.random.split(jax.random.key(3))
    first = draw_mask(one, "phrase", PHRASES, ATTRIBUTES)
    assert np.array_equal(first, draw_mask(one, "phrase", PHRASES, ATTRIBUTES))
    assert not np.array_equal(first, draw_mask(two, "phrase", PHRASES, ATTRIBUTES))
