"""Building blocks of the encoders and decoders: dense maps, attention, MLP, the ATP gate.

Shapes: B images, M texts (M may exceed B: several texts may attend one image),
T text or image tokens, S tokens attended to, D width, N heads.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from cada_jax.common.shapes import AnyArray, Array, Float, Float32
from cada_jax.distributed.mesh import on_cpu, on_tpu
from cada_jax.models import tpu_layers


def flat_dot_general(
    lhs: Float[AnyArray, "*rows D"],
    rhs: Float[AnyArray, "D F"],
    dimension_numbers,
    precision=None,
    preferred_element_type=None,
) -> Float[Array, "*rows F"]:
    """`lax.dot_general` of [..., D] x [D, F] as one two-dimensional product.

    XLA's CPU backend hands only rank-2 products to its fast matrix routine; the same
    product on [B, T, D] measured 1.5 to 2.7 times slower. Elsewhere it changes nothing.
    """
    rows = lhs.reshape(-1, lhs.shape[-1])
    flat = jax.lax.dot_general(
        rows,
        rhs,
        (((1,), (0,)), ((), ())),
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    return flat.reshape(*lhs.shape[:-1], rhs.shape[-1])


# The variance that BERT and ViT initialise with, 0.02 ** 2 at width 768, for any width: with
# 0.02 itself a model of width 96 barely attends to anything for its first thousand steps.
KERNEL_INIT = nn.initializers.variance_scaling(768 * 0.02**2, "fan_in", "normal")


def dense(features: int, name: str, dtype: DTypeLike) -> nn.Module:
    """A Dense layer [..., D] -> [..., features] with the project's initialisation."""
    if on_tpu():
        return tpu_layers.Dense(features, dtype, name=name)
    return nn.Dense(
        features,
        name=name,
        dtype=dtype,
        kernel_init=KERNEL_INIT,
        dot_general=flat_dot_general,
    )


# What costs little is computed again by the backward pass from its input, the one array that is
# kept: the intermediate results of GELU and LayerNorm were a third of what a layer kept. In a
# scan there is nothing that the compiler could merge the recomputation with: no `prevent_cse`.
_LayerNorm = nn.remat(nn.LayerNorm, prevent_cse=False)


def layer_norm(name: str, epsilon: float, dtype: DTypeLike) -> nn.Module:
    """LayerNorm with statistics in float32; the two-pass variance loses no digits."""
    if on_tpu():
        return tpu_layers.LayerNorm(epsilon, dtype, name=name)
    return _LayerNorm(name=name, epsilon=epsilon, dtype=dtype, use_fast_variance=False)


@functools.partial(jax.checkpoint, prevent_cse=False)
def gelu(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """The exact GELU, x/2 (1 + erf(x / sqrt 2)), which both BERT and ViT use.

    `nn.gelu` writes it with erfc, which takes the CPU six times as long.
    """
    return 0.5 * x * (1.0 + jax.lax.erf(x * np.asarray(math.sqrt(0.5), x.dtype)))


def l2_normalize(x: Float[AnyArray, "*rows E"]) -> Float32[Array, "*rows E"]:
    """Scales float [..., E] to length 1 along E, in float32; a zero row stays zero."""
    x = jnp.asarray(x, jnp.float32)
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    # The bound goes inside the root, whose gradient at 0 would be infinite and give NaN.
    return x / jnp.sqrt(jnp.maximum(squares, 1e-24))


FEW_LAYERS = 4  # up to so many, what is done once for all layers is a share worth sparing


def layers_in_one_go(depth: int) -> int:
    """How many layers of a scan become straight code: all, or one (`unroll`).

    A scan copies what every layer keeps into arrays of all layers and back out. That took a tenth
    of a training step on a TPU, and of one of few layers on a CPU. With many layers a CPU's program
    ran no faster for it, and it or a GPU's would take longer to compile.
    """
    return depth if on_tpu() or (on_cpu() and depth <= FEW_LAYERS) else 1


REMATS = ("off", "light", "full")


def rematerialized(layer: type[nn.Module], how: str, static_argnums: tuple[int, ...]):
    """A layer's class that keeps less for its backward pass, which computes the rest again.

    Args:
      layer: a Flax module's class, to be scanned.
      how: "off": everything is kept. "light": products with weights, which are nearly all of the
        arithmetic; norms, GELU, softmax and the products of attention, whose results grow with the
        square of the tokens, are computed again. "full": the layer's inputs alone.
      static_argnums: arguments of the call that are no arrays, the module being 0.
    """
    if how == "off":
        return layer
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if how == "light" else None
    return nn.remat(layer, prevent_cse=False, static_argnums=static_argnums, policy=policy)


class MLP(nn.Module):
    """Two dense layers with an exact GELU between them, [..., D] -> [..., D]."""

    hidden: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*rows D"]) -> Float[Array, "*rows D"]:
        """Maps float [..., D] to float [..., D]."""
        hidden = gelu(dense(self.hidden, "fc1", self.dtype)(x))
        return dense(x.shape[-1], "fc2", self.dtype)(hidden)


class TokenGate(nn.Module):
    """The ATP gate: how far a text token lets its associated patches in.

    g_t = 2 sigmoid(w . [h_t; c_t] + b) in (0, 2) with w = b = 0 at the start, so that
    g is exactly 1 and a model without gates computes the same numbers.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, token: Float[AnyArray, "M T D"], associated: Float[AnyArray, "M T D"]
    ) -> Float[Array, "M T D"]:
        """Scales `associated` [M, T, D] by the gate of each `token` [M, T, D]."""
        zeros = nn.initializers.zeros_init()
        width = token.shape[-1]
        kernel = self.param("kernel", zeros, (2 * width, 1))
        bias = self.param("bias", zeros, (1,))
        # float32: near its start the gate's changes are smaller than bfloat16 can hold.
        logit = bias[None, None]
        for part, rows in ((token, kernel[:width]), (associated, kernel[width:])):
            logit += jnp.einsum("mtd,do->mto", part.astype(jnp.float32), rows)
        gate = 2.0 * nn.sigmoid(logit)
        self.sow("intermediates", "gate", gate)
        return gate.astype(self.dtype) * associated


class DropPath(nn.Module):
    """Drops the whole residual branch of a sample."""

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "B T D"], rate: Float[Array, ""]
    ) -> Float[Array, "B T D"]:
        """Drops rows of x [B, T, D] with probability `rate`, scales the others by 1 / (1 - rate).

        `rate` may be traced (it differs per layer).
        """
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - rate, (x.shape[0], 1, 1))
        return jnp.where(keep, x / (1.0 - rate).astype(x.dtype), jnp.zeros((), x.dtype))
