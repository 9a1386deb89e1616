"""Dropout, drop path and the stem of small models."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.models import layers
from cada_jax.models.conv_stem import StridedConv
from cada_jax.models.ops import plain, random_bits
from tests.models.ops.compare import assert_alike, normal


def seeds(rows, key=4):
    return random_bits.row_seeds(jax.random.key(key), jnp.arange(rows))


def test_dropout_drops_its_share_and_the_gradient_the_same():
    x, draw = jnp.ones((64, 16, 32)), random_bits.Draw(seeds(64), 0.25, 3)
    ours, pull = jax.vjp(lambda x: plain.dropout(x, draw), x)
    assert set(np.unique(ours)) == {0.0, np.float32(1 / 0.75)}
    assert np.mean(ours == 0) == pytest.approx(0.25, abs=0.01)
    np.testing.assert_array_equal(pull(x)[0], ours)
    assert len(np.unique(np.asarray(ours).reshape(64, -1), axis=0)) == 64  # rows differ
    part = draw._replace(seeds=draw.seeds[32:])
    np.testing.assert_array_equal(plain.dropout(x[32:], part), ours[32:])
    for other in (draw._replace(seeds=seeds(64, key=5)), draw._replace(place=4)):
        assert (plain.dropout(x, other) != ours).any()
    assert plain.dropout(x, None) is x


def test_drop_path_drops_whole_rows_by_a_rate_that_may_be_traced():
    x = jnp.ones((4000, 2, 3))
    out = np.asarray(jax.jit(layers.drop_path)(x, seeds(4000), jnp.float32(0.3)))
    assert set(np.unique(out)) == {0.0, np.float32(1 / (1 - np.float32(0.3)))}
    assert np.all(out == out[:, :1, :1])
    assert np.mean(out == 0) == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(layers.drop_path(x, seeds(4000), jnp.float32(0.0)), x)


def test_rows_after_each_other_attend_the_same():
    """M / B rows a time, as if what they attend were repeated."""
    queries, seen = normal(0, 6, 5, 8), normal(1, 2, 7, 8)
    attention = layers.Attention(heads=2)
    params = attention.init(jax.random.key(0), queries, seen)
    repeated = attention.apply(params, queries, jnp.repeat(seen, 3, axis=0))
    for ours, expected in zip(attention.apply(params, queries, seen), repeated, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 2, 2, 3), (1, 4, 6, 8), (2, 12, 10, 24)])
def test_the_strided_convolution_is_that_of_flax(shape):
    flax, ours = nn.Conv(7, (3, 3), strides=2), StridedConv(7)
    x = normal(0, *shape)
    params = flax.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(1), x), params)
    assert_alike(ours.apply, flax.apply, params, x)
