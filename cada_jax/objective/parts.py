"""A sum of parts whose number the data decide, with the memory of one part.

`lax.scan` needs the number in advance: parts that are not there are then skipped one by one, and
the backward pass adds a gradient of zeros for each, which of a vocabulary is 94 MB to read and
write. `lax.while_loop` takes any number and has no gradient. Here the gradient is written by hand.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cada_jax.common.shapes import Array, Int


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def sum_of_parts(
    part: Callable[[Int[Array, ""], Any, Any], Any],
    count: Int[Array, ""],
    of_gradient: Any,
    given: Any,
) -> Any:
    """part(0) + part(1) + ... + part(count - 1), each made again for its gradient.

    Args:
      part: (i, of_gradient, given) -> pytree of floats, for i int32 in [0, count); it closes over
        nothing that needs a gradient.
      count: int32 scalar, 0 or more; may be traced.
      of_gradient: pytree of float arrays, which the gradient flows to.
      given: pytree of arrays, which no gradient flows to.

    Returns:
      the sum, as `part` returns it; zeros for no parts.
    """
    shapes = jax.eval_shape(part, jnp.int32(0), of_gradient, given)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(i, total):
        return jax.tree.map(jnp.add, total, part(i, of_gradient, given))

    return jax.lax.fori_loop(0, count, add, zeros)


def _forward(part, count, of_gradient, given):
    return sum_of_parts(part, count, of_gradient, given), (count, of_gradient, given)


def _backward(part, kept, cotangent):
    count, of_gradient, given = kept

    def add(i, gradient):
        last_first = count - 1 - i  # as the gradient of a scan adds them
        _, pull = jax.vjp(lambda x: part(last_first, x, given), of_gradient)
        return jax.tree.map(jnp.add, gradient, pull(cotangent)[0])

    zeros = jax.tree.map(jnp.zeros_like, of_gradient)
    return None, jax.lax.fori_loop(0, count, add, zeros), None


sum_of_parts.defvjp(_forward, _backward)
