"""Building blocks of encoders and decoders: dense maps, norms, attention, MLP, dropout.

M rows of T tokens attend B rows of S tokens; D width, N heads. Parameters are declared here; what
is computed of them is `ops_for` the platform. What is dropped is a function of `seeds`, int32 [M,2]
of `random_bits.row_seeds`; None drops nothing.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from cada_jax.common.shapes import AnyArray, Array, Float, Float32, Int
from cada_jax.models.ops import current_ops, plain, random_bits

# The variance that BERT and ViT initialise with, 0.02 ** 2 at width 768, for any width: with
# 0.02 itself a model of width 96 barely attends to anything for its first thousand steps.
KERNEL_INIT = nn.initializers.variance_scaling(768 * 0.02**2, "fan_in", "normal")
# What a block adds to its residual: a product [M,T,D], and the bias [D] that belongs to it.
Branch = tuple[Float[AnyArray, "M T D"], Float32[AnyArray, "D"]]
REMATS = ("off", "light", "full")


def _map_params(module: nn.Module, width: int, features: int) -> tuple[AnyArray, AnyArray]:
    bias = nn.initializers.zeros_init()
    kernel = module.param("kernel", KERNEL_INIT, (width, features))
    return kernel, module.param("bias", bias, (features,))


class Map(nn.Module):
    """Kernel [width, features] and bias [features] of a dense layer, for others to compute with."""

    features: int

    @nn.compact
    def __call__(self, width: int) -> tuple[Float[AnyArray, "D F"], Float32[AnyArray, "F"]]:
        """[width, features] and [features]; a kernel may come in the type it is multiplied in."""
        return _map_params(self, width, self.features)


class Dense(nn.Module):
    """A dense layer, [..., D] -> [..., features], computed in `dtype`."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*rows D"]) -> Float[Array, "*rows F"]:
        """Maps float [..., D] to float [..., features]."""
        params = _map_params(self, x.shape[-1], self.features)
        return current_ops().dense(jnp.asarray(x, self.dtype), *params)


def _norm_params(module: nn.Module, width: int) -> tuple[AnyArray, AnyArray]:
    scale = module.param("scale", nn.initializers.ones_init(), (width,))
    return scale, module.param("bias", nn.initializers.zeros_init(), (width,))


class LayerNorm(nn.Module):
    """LayerNorm of [..., D] with statistics in float32."""

    epsilon: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*rows D"]) -> Float[Array, "*rows D"]:
        """Maps float [..., D] to float [..., D]."""
        params = _norm_params(self, x.shape[-1])
        return current_ops().layer_norm(jnp.asarray(x, self.dtype), *params, self.epsilon)


class AddAndNorm(nn.Module):
    """LayerNorm of a residual and a branch, see `ops.plain.Ops.add_and_norm`."""

    epsilon: float

    @nn.compact
    def __call__(
        self,
        x: Float[AnyArray, "M T D"],
        branch: Branch,
        draw: random_bits.Draw | None = None,
        gate: tuple[AnyArray, AnyArray] | None = None,
    ) -> Float[Array, "M T D"]:
        """Float [M,T,D]."""
        norm = _norm_params(self, x.shape[-1])
        return current_ops().add_and_norm(x, branch, norm, self.epsilon, draw, gate)


class SumAndNorm(nn.Module):
    """A residual with its branch, and LayerNorm of both, see `ops.plain.Ops.sum_and_norm`."""

    epsilon: float

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "M T D"], branch: Branch
    ) -> tuple[Float[Array, "M T D"], Float[Array, "M T D"]]:
        """(sum, normed), float [M,T,D] each."""
        norm = _norm_params(self, x.shape[-1])
        return current_ops().sum_and_norm(x, branch, norm, self.epsilon)


class Attention(nn.Module):
    """Multi-head attention; keys and values are computed once per image or text.

    Attributes:
      heads: number of heads; must divide the width of the queries.
      dtype: of the activations.
      sow_as: name under which the weights [M, N, T, S] are sown into "intermediates".
    """

    heads: int
    dtype: DTypeLike = jnp.float32
    sow_as: str | None = None

    @nn.compact
    def __call__(
        self,
        queries: Float[AnyArray, "M T D"],
        seen: Float[AnyArray, "B S Dk"],
        bias: Float32[AnyArray, "M #T S"] | None = None,
        index: Int[AnyArray, "G rows"] | None = None,
        draw: random_bits.Draw | None = None,
    ) -> Branch:
        """Attends from queries [M,T,D] to `seen` [B,S,Dk].

        Without an `index`, see `ops.plain.attention`, M is a multiple of B, and M / B rows after
        each other attend the same. The bias is for B = M alone, a draw for B = M or with an index.
        """
        ops, width = current_ops(), queries.shape[-1]
        x = jnp.asarray(queries, self.dtype)
        seen = x if seen is queries else jnp.asarray(seen, self.dtype)
        inputs = ("query", x), ("key", seen), ("value", seen)
        maps = [Map(width, name=name)(given.shape[-1]) for name, given in inputs]
        if self.sow_as and self.is_mutable_collection("intermediates"):
            q, k, v = ops.project(x, seen, maps, index)
            k, v = (y if index is None else plain.attended(y, index) for y in (k, v))
            weights = plain.attention_weights(q, k, self.heads, bias)
            self.sow("intermediates", self.sow_as, weights)
            weights = self.perturb(self.sow_as, weights)
            seeds, rate = (draw.own_seeds, draw.rate) if draw else (None, 0.0)
            mixed = plain.mixed_values(weights, v, seeds, rate).reshape(x.shape)
        else:
            mixed = ops.project_and_attend(x, seen, maps, self.heads, bias, index, draw)
        kernel, shift = Map(width, name="out")(width)
        return ops.product(mixed, kernel), shift


class MLP(nn.Module):
    """Two dense layers with an exact GELU between them, [..., D] -> [..., D]."""

    hidden: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*rows D"]) -> Branch:
        """Maps float [..., D] to float [..., D] and the second's bias, still to be added."""
        width = x.shape[-1]
        first, (kernel, bias) = (
            Map(self.hidden, name="fc1")(width),
            Map(width, name="fc2")(self.hidden),
        )
        return current_ops().mlp(jnp.asarray(x, self.dtype), first, kernel), bias


def l2_normalize(x: Float[AnyArray, "*rows E"]) -> Float32[Array, "*rows E"]:
    """Scales float [..., E] to length 1 along E, in float32; a zero row stays zero."""
    x = jnp.asarray(x, jnp.float32)
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    # The bound goes inside the root, whose gradient at 0 would be infinite and give NaN.
    return x / jnp.sqrt(jnp.maximum(squares, 1e-24))


def drop_path(
    x: Float[AnyArray, "M T D"], seeds: Int[AnyArray, "M 2"] | None, rate: Float32[AnyArray, ""]
) -> Float[Array, "M T D"]:
    """Drops whole rows of x [M,T,D] with probability `rate`, scales the others by 1 / (1 - rate).

    `rate`, in [0,1), may be traced: it differs by layer.
    """
    if seeds is None:
        return jnp.asarray(x)
    bits = random_bits.hashed(jnp.int32(0), seeds[:, 0], seeds[:, 1])
    uniform = jax.lax.shift_right_logical(bits, jnp.int32(8)).astype(jnp.float32) * 2.0**-24
    scale = jnp.where(uniform >= rate, 1.0 / (1.0 - rate), 0.0).astype(x.dtype)
    return jnp.asarray(x * scale[:, None, None])


def scanned(layer: type[nn.Module], depth: int, how: str, in_axes: tuple) -> Any:
    """A class of `depth` layers one after another.

    A call takes what the layer's takes: x, the layers' numbers int32 [depth], and what `in_axes`
    describes. It returns what the last layer makes of x, and None.

    Args:
      layer: a Flax module's class, whose call takes (x, number, ...) and returns (x, None).
      depth: number of layers.
      how: what is kept for the backward pass, which computes the rest again; one of `REMATS`.
        "off": everything. "light": products with weights, which are nearly all of the arithmetic,
        and no norms, GELU, softmax or products of attention, whose results grow with the square of
        the tokens. "full": the layers' inputs alone.
      in_axes: for each further argument 0, an entry for every layer, or `nn.broadcast`.
    """
    unroll = current_ops().unroll(depth)
    if how != "off":
        light = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        # In a scan there is nothing that the recomputation could be merged with.
        policy = light if how == "light" else None
        layer = nn.remat(layer, prevent_cse=unroll > 1, policy=policy)
    return nn.scan(
        layer,
        variable_axes={"params": 0, "intermediates": 0, "perturbations": 0},
        split_rngs={"params": True},
        in_axes=(0, *in_axes),
        length=depth,
        unroll=unroll,
    )
