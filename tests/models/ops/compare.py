"""Two functions that must have the same values and gradients."""

import jax
import numpy as np


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def assert_alike(ours, plain, *inputs, bound=1e-5):
    """Equal values, and equal gradients of every input, relative to the largest."""

    def value_and_gradient(function):
        value, pull = jax.vjp(function, *inputs)
        return value, pull(normal(9, *value.shape).astype(value.dtype))

    found, expected = (jax.jit(value_and_gradient, static_argnums=0)(f) for f in (ours, plain))
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, atol=bound * max(1.0, np.abs(y).max()))
