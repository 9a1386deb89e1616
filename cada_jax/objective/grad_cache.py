"""Exact gradients of a loss over the whole batch, while a part of it at a time is in memory.

Adding up the gradients of small batches would compare each pair with the few others of its small
batch, and choose its negatives among them: another loss. Here, as in GradCache (Gao et al.,
"Scaling Deep Contrastive Learning Batch Size", 2021), every chunk is encoded without
keeping what its gradient needs; the loss over the whole batch gives the gradient of every
encoding; and the chunks are encoded once more to carry that on to the parameters. What comes after
the encoders and is a sum over rows runs chunk by chunk in between.

The price is the encoders' second forward pass, and the encodings of the whole batch in memory.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cada_jax.common.shapes import Array, Float, Int
from cada_jax.distributed.batch import rows_of_chunk
from cada_jax.models.dropout import RowNumbers
from cada_jax.models.layers import DropPath


@contextlib.contextmanager
def draws_of_chunk(chunk: Int[Array, ""], chunks: int) -> Iterator[None]:
    """Within it, dropout and drop path draw for a chunk's rows what they draw for the whole batch.

    The draws of the whole batch are made and the chunk's rows of them taken: no gradient, no
    matrix product, but as many random numbers as the batch needs, for every chunk. Where dropout
    draws by the numbers of rows, on a TPU, the chunk's rows are given theirs.

    Args:
      chunk: int32 scalar, which one.
      chunks: how many.
    """

    def intercept(call, args, kwargs, context):
        module = context.module
        if context.method_name == "__call__" and isinstance(module, RowNumbers):
            return rows_of_chunk(call(args[0] * chunks), chunk, chunks)
        drawing = isinstance(module, nn.Dropout | DropPath)
        if context.method_name != "__call__" or not drawing:
            return call(*args, **kwargs)
        x, *rest = args
        rows = len(x) * chunks
        shape = (rows, 1, 1) if isinstance(module, DropPath) else (rows, *x.shape[1:])
        scale = call(jnp.ones(shape, x.dtype), *rest, **kwargs)
        return x * rows_of_chunk(scale, chunk, chunks)

    with nn.intercept_methods(intercept):
        yield


def value_and_grad(
    encode: Callable[[Any, Any], Any],
    whole: Callable[[Any], tuple[tuple[Float[Array, ""], Any], tuple[Any, dict]]],
    part: Callable[[Any, Any, Any], tuple[Float[Array, ""], dict]],
    params: Any,
    chunks: Any,
) -> tuple[tuple[Float[Array, ""], dict[str, Float[Array, ""]]], Any]:
    """The loss `whole + sum of part` and its gradient in the parameters.

    Args:
      encode: (params, chunk) -> encodings, any pytree of float arrays.
      whole: encodings, every leaf with a leading axis for the chunks, -> ((loss, routed), (fixed,
        terms)): a scalar; what the parts need of the encodings, of their own chunk or another;
        what they need besides and no gradient flows through; scalars to report. The leaves of
        `routed` and `fixed` have a leading axis for the chunks.
      part: (params, routed, fixed) of one chunk -> (loss, terms): its share of the whole loss and
        of what is reported, to be added up.
      params: pytree of float arrays.
      chunks: pytree whose leaves have a leading axis for the chunks.

    Returns:
      ((loss, terms), gradient): a scalar, a dict of scalars, a tree like `params`.
    """
    _, encoded = jax.lax.scan(lambda _, chunk: (None, encode(params, chunk)), None, chunks)
    (loss, routed), pull, (fixed, terms) = jax.vjp(whole, encoded, has_aux=True)

    def forward_and_back(gradient, given):
        grad = jax.value_and_grad(part, argnums=(0, 1), has_aux=True)
        (share, reported), (of_params, of_routed) = grad(params, *given)
        return jax.tree.map(jnp.add, gradient, of_params), (of_routed, share, reported)

    zeros = jax.tree.map(jnp.zeros_like, params)
    gradient, (of_routed, shares, reported) = jax.lax.scan(forward_and_back, zeros, (routed, fixed))
    (of_encoded,) = pull((jnp.ones_like(loss), of_routed))

    def back(gradient, given):
        chunk, cotangent = given
        _, pull = jax.vjp(lambda params: encode(params, chunk), params)
        return jax.tree.map(jnp.add, gradient, pull(cotangent)[0]), None

    gradient, _ = jax.lax.scan(back, gradient, (chunks, of_encoded))
    terms = terms | {name: jnp.sum(values) for name, values in reported.items()}
    return (loss + jnp.sum(shares), terms), gradient
