"""Dropout: Flax's own, and on a TPU one that stores no mask."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from cada_jax.common.shapes import AnyArray, Array, Float, Int, Int32
from cada_jax.distributed.batch import constrain_rows
from cada_jax.distributed.mesh import on_tpu
from cada_jax.models import random_bits


class RowNumbers(nn.Module):
    """The numbers of a batch's rows; a module, so that accumulation can number a chunk's rows."""

    @nn.compact
    def __call__(self, rows: int) -> Int32[Array, "{rows}"]:
        """int32 [rows], 0, 1, 2, ..."""
        return jnp.arange(rows, dtype=jnp.int32)


def row_keys(module: nn.Module, rows: int) -> Int32[Array, "{rows} 2"]:
    """Keys of `random_bits` for the rows of a batch, from the module's "dropout" key.

    Args:
      module: in whose compact method this is called.
      rows: of what the module works on.
    """
    numbers = RowNumbers(parent=module)(rows)
    return constrain_rows(random_bits.row_keys(module.make_rng("dropout"), numbers))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def drop(
    x: Float[AnyArray, "M *places"], keys: Int[AnyArray, "M 2"], rate: float
) -> Float[Array, "M *places"]:
    """Zeroes numbers of x [M,...] with probability `rate`, scales the others by 1 / (1 - rate).

    The backward pass computes the mask again from the keys, int32 [M,2].
    """
    places = jax.lax.broadcasted_iota(jnp.int32, (1, x[0].size), 1).reshape(1, *x.shape[1:])
    first, second = (keys[:, i].reshape(-1, *(1,) * (x.ndim - 1)) for i in (0, 1))
    keep = random_bits.kept(random_bits.hashed(places, first, second), rate)
    scale = jnp.asarray(random_bits.keep_scale(rate), x.dtype)
    return jnp.where(keep, x * scale, jnp.zeros((), x.dtype))


def _drop_forward(x, keys, rate):
    return drop(x, keys, rate), keys


def _drop_backward(rate, keys, grad):
    return drop(grad, keys, rate), None


drop.defvjp(_drop_forward, _drop_backward)


class HashedDropout(nn.Module):
    """Dropout by `random_bits`; `deterministic` is given here or to the call, as with Flax's."""

    rate: float
    deterministic: bool | None = None

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "M *places"], deterministic: bool | None = None
    ) -> Float[Array, "M *places"]:
        """Drops numbers of float [M,...] with probability `rate`."""
        still = nn.merge_param("deterministic", self.deterministic, deterministic)
        if still or self.rate == 0:
            return jnp.asarray(x)
        return drop(x, row_keys(self, len(x)), self.rate)


def dropout(rate: float, deterministic: bool | None = None) -> nn.Module:
    """`nn.Dropout`, and on a TPU `HashedDropout`."""
    return HashedDropout(rate, deterministic) if on_tpu() else nn.Dropout(rate, (), deterministic)
