"""Exact gradients of a loss over the whole batch, while a part of it at a time is in memory.

Adding up the gradients of small batches would compare each pair with the few others of its small
batch, and choose its negatives among them: another loss. Here, as in GradCache (Gao et al.,
"Scaling Deep Contrastive Learning Batch Size", 2021), every chunk is encoded without keeping what
its gradient needs (`map_rows`); the loss over the whole batch gives the gradient of every encoding;
and the chunks are encoded once more to carry that on to the parameters. What comes after the
encoders and is a sum over rows runs chunk by chunk, forward and back at once (`sum_rows`).

The price is the encoders' second forward pass, and the encodings of the whole batch in memory.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cada_jax.common.shapes import Array, Float32
from cada_jax.distributed.batch import merge_rows, split_rows

Sums = tuple[Float32[Array, ""], dict[str, Float32[Array, ""]]]


def map_rows(function: Callable[[Any, Any], Any], params: Any, rows: Any, chunks: int) -> Any:
    """`function(params, rows)`, whose results have an entry for every row; nothing else is kept.

    Args:
      function: of parameters and some rows of the batch.
      params: pytree of float arrays.
      rows: pytree of arrays [B,...].
      chunks: one by one; of 1 everything is kept.
    """
    if chunks == 1:
        return function(params, rows)
    part = jax.checkpoint(lambda part: function(params, part), prevent_cse=False)
    found = jax.lax.map(part, _split(rows, chunks))
    return jax.tree.map(merge_rows, found)


def sum_rows(function: Callable[[Any, Any], Sums], params: Any, rows: Any, chunks: int) -> Sums:
    """`function(params, rows)`, a loss and scalars to report, all of them sums over rows.

    Args:
      function: as of `map_rows`.
      params: pytree of float arrays.
      rows: pytree of arrays [B,...]; the gradient flows to those of floats.
      chunks: one by one; of 1 the whole batch is there at once. Then no gradient flows from what is
        reported.
    """
    if chunks == 1:
        return function(params, rows)
    leaves, tree = jax.tree.flatten(_split(rows, chunks))
    is_float = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def of_parts(params, floats, others):
        floats, others = iter(floats), iter(others)
        joined = [next(floats if wanted else others) for wanted in is_float]
        return function(params, tree.unflatten(joined))

    floats = [leaf for leaf, wanted in zip(leaves, is_float, strict=True) if wanted]
    others = [leaf for leaf, wanted in zip(leaves, is_float, strict=True) if not wanted]
    return _sum_parts(of_parts, params, floats, others)


def _split(rows: Any, chunks: int) -> Any:
    return jax.tree.map(functools.partial(split_rows, chunks=chunks), rows)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_parts(function, params, floats, others):
    found = jax.lax.map(lambda part: function(params, *part), (floats, others))
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), found)


def _sum_and_gradients(function, params, floats, others):
    """The gradient is made with the value, so that a part runs forward once."""
    grad = jax.value_and_grad(function, argnums=(0, 1), has_aux=True)

    def add(total, part):
        found, (of_params, of_floats) = grad(params, *part)
        return jax.tree.map(jnp.add, total, of_params), (found, of_floats)

    zeros = jax.tree.map(jnp.zeros_like, params)
    of_params, (found, of_floats) = jax.lax.scan(add, zeros, (floats, others))
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), found), (of_params, of_floats)


def _scaled_gradients(function, kept, cotangent):
    of_loss, _ = cotangent
    scaled = jax.tree.map(lambda x: (of_loss * x).astype(x.dtype), kept)
    return *scaled, None


_sum_parts.defvjp(_sum_and_gradients, _scaled_gradients)
