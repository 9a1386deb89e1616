"""Attention's core against the plain computation, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.models.attention import Attention, softmax_average

SHAPE = (2, 3, 5, 7)  # images, heads, tokens, tokens attended


def _inputs(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    scores = 5.0 * rng.standard_normal(SHAPE, np.float32)
    scores[..., 4:6] = -np.inf
    values, grad = (rng.standard_normal((2, 3, n, 4), np.float32) for n in (7, 5))
    return jnp.asarray(scores), jnp.asarray(values, dtype), jnp.asarray(grad)


def _plain(scores, values):
    return jnp.matmul(jax.nn.softmax(scores, axis=-1), values)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(jnp.float32, 1e-6), (jnp.bfloat16, 3e-2)], ids=["float32", "bfloat16"]
)
def test_softmax_average_is_softmax_times_values(dtype, tolerance):
    scores, values, grad = _inputs(dtype)
    exact = _inputs()[1]

    def run(function, values):
        return jax.value_and_grad(
            lambda s, v: jnp.sum(function(s, v).astype(jnp.float32) * grad), argnums=(0, 1)
        )(scores, values)

    mixed = softmax_average(scores, values)
    assert mixed.dtype == dtype
    np.testing.assert_allclose(mixed.astype(jnp.float32), _plain(scores, exact), atol=tolerance)
    for ours, plain in zip(run(softmax_average, values)[1], run(_plain, exact)[1], strict=True):
        np.testing.assert_allclose(ours.astype(jnp.float32), plain, atol=4 * tolerance)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_softmax_average_of_large_scores_is_finite(size):
    scores, values, _ = _inputs()
    np.testing.assert_allclose(
        softmax_average(scores + size, values), _plain(scores + size, values), rtol=1e-5
    )


def test_rows_after_each_other_attend_the_same():
    """M / B rows a time, as if what they attend were repeated; S of 7 is padded on a CPU."""
    rng = np.random.default_rng(0)
    queries, seen = (rng.standard_normal((*s, 8), np.float32) for s in ((6, 5), (2, 7)))
    attention = Attention(heads=2)
    params = attention.init(jax.random.key(0), queries, seen)
    repeated = attention.apply(params, queries, np.repeat(seen, 3, axis=0))
    np.testing.assert_allclose(attention.apply(params, queries, seen), repeated, atol=1e-6)
