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
from einops import rearrange

# BERT's value for "do not attend". exp(-10000) is exactly 0 in float32, so nothing leaks.
MASKED = -10000.0


def flat_dot_general(lhs, rhs, dimension_numbers, precision=None, preferred_element_type=None):
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


def dense(features: int, name: str, dtype) -> nn.Dense:
    """A Dense layer [..., D] -> [..., features] with the project's initialisation."""
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


def layer_norm(name: str, epsilon: float, dtype) -> nn.LayerNorm:
    """LayerNorm with statistics in float32; the two-pass variance loses no digits."""
    return _LayerNorm(name=name, epsilon=epsilon, dtype=dtype, use_fast_variance=False)


@functools.partial(jax.checkpoint, prevent_cse=False)
def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, x/2 (1 + erf(x / sqrt 2)), which both BERT and ViT use.

    `nn.gelu` writes it with erfc, which takes the CPU six times as long.
    """
    return 0.5 * x * (1.0 + jax.lax.erf(x * np.asarray(math.sqrt(0.5), x.dtype)))


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


def can_fuse(dtype, dropping: bool, wanted: bool, bias: jax.Array | None, tokens: int) -> bool:
    """Whether cuDNN's fused (flash) attention computes what `Attention` was asked for.

    It needs an NVIDIA GPU from Ampere on and a 16-bit type, drops no weights by our keys and never
    forms the weights. Its gradient with a bias needs even numbers of tokens.

    Args:
      dtype: of the activations.
      dropping: attention weights are dropped.
      wanted: somebody wants to see the weights.
      bias: float, broadcastable to [M, N, T, S], or None.
      tokens: T, with a bias S = T too.
    """
    if jax.default_backend() != "gpu" or jnp.dtype(dtype).itemsize != 2 or dropping or wanted:
        return False
    if float(getattr(jax.devices()[0], "compute_capability", 0)) < 8.0:
        return False
    return bias is None or (tokens % 2 == 0 and bias.shape[-1] == tokens)


def _attended(x: jax.Array, index: jax.Array) -> jax.Array:
    """Keys or values [B, ...] of each row, [M, ...]; see `kv_index` of `Attention`."""
    if index.ndim == 1:
        return x[index]
    groups = x.reshape(len(index), -1, *x.shape[1:])
    return jax.vmap(lambda group, rows: group[rows])(groups, index).reshape(-1, *x.shape[1:])


@jax.custom_vjp
def softmax_average(scores: jax.Array, values: jax.Array) -> jax.Array:
    """softmax(scores) @ values, divided by the sum of the weights last.

    As flash attention does it: [T, d] numbers are divided in place of [T, S], which takes half the
    time on a CPU, and the one array of that size kept for the backward pass is exp(scores).

    Args:
      scores: float32 [..., T, S]; -inf takes a place out, but not all of a row.
      values: float [..., S, d].

    Returns:
      float [..., T, d], of the values' type.
    """
    return _average(scores, values)[0]


def _average(scores, values):
    exps = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    total = jnp.sum(exps, axis=-1, keepdims=True)
    exps = exps.astype(values.dtype)
    mixed = (jnp.matmul(exps, values) / total).astype(values.dtype)
    return mixed, (exps, total, values, mixed)


def _average_gradient(kept, grad):
    exps, total, values, mixed = kept
    grad = grad.astype(jnp.float32) / total
    of_values = jnp.matmul(exps.swapaxes(-1, -2), grad.astype(values.dtype))
    of_weights = jnp.matmul(grad.astype(values.dtype), values.swapaxes(-1, -2))
    common = jnp.sum(grad * mixed, axis=-1, keepdims=True)
    return exps.astype(jnp.float32) * (of_weights - common), of_values


softmax_average.defvjp(_average, _average_gradient)


class Attention(nn.Module):
    """Multi-head attention; keys and values are computed once per image or text.

    Attributes:
      heads: number of heads; must divide the width of the queries.
      dropout: probability that an attention weight is dropped.
      dtype: of the activations. Softmax is computed in float32 in any case.
      sow_as: name under which the weights [M, N, T, S] are sown into "intermediates".
    """

    heads: int
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    sow_as: str | None = None

    @nn.compact
    def __call__(self, queries, keys_values, bias=None, kv_index=None, deterministic=True):
        """Attends from queries [M, T, D] to keys_values [B, S, Dk].

        Args:
          queries: float [M, T, D].
          keys_values: float [B, S, Dk]. M is a multiple of B, and M / B rows after each other
            attend the same, unless `kv_index` is given.
          bias: float, broadcastable to [M, N, T, S], added to the scaled products; only for B = M.
          kv_index: int32 [M] in [0, B): row m attends keys_values[kv_index[m]]. Or [G, M/G] in
            [0, B/G): the rows, and the images or texts they attend, come in G groups of equal
            size; a device that holds whole groups then needs nothing of another.
          deterministic: no dropout.

        Returns:
          float [M, T, D].
        """
        shape, width = queries.shape, queries.shape[-1]
        # Flattened once: of equal arrays of two shapes the backward pass would keep both.
        rows = queries.reshape(-1, width)
        seen = rows if keys_values is queries else keys_values.reshape(-1, keys_values.shape[-1])
        q = dense(width, "query", self.dtype)(rows)
        k = dense(width, "key", self.dtype)(seen).reshape(*keys_values.shape[:2], width)
        v = dense(width, "value", self.dtype)(seen).reshape(*keys_values.shape[:2], width)
        if kv_index is not None:
            k, v = _attended(k, kv_index), _attended(v, kv_index)
        q = q.reshape(len(k), -1, width)
        dropping = self.dropout > 0 and not deterministic
        wanted = bool(self.sow_as) and self.is_mutable_collection("intermediates")
        if can_fuse(self.dtype, dropping, wanted, bias, q.shape[1]):
            mixed = self._fused(q, k, v, bias)
        else:
            mixed = self._plain(q, k, v, bias, dropping, wanted)
        return dense(width, "out", self.dtype)(mixed.reshape(-1, width)).reshape(shape)

    def _fused(self, q, k, v, bias):
        """The kernel of cuDNN, which keeps neither products nor weights: [M, T, D]."""
        batch, tokens, seen = q.shape[0], q.shape[1], k.shape[1]
        lengths = {}
        if bias is not None:
            bias = jnp.broadcast_to(bias, (batch, 1, tokens, seen)).astype(self.dtype)
        elif tokens % 2 or seen % 2:
            # Its gradient takes even numbers of tokens only; one more is added and masked.
            q = jnp.pad(q, ((0, 0), (0, tokens % 2), (0, 0)))
            k, v = (jnp.pad(x, ((0, 0), (0, seen % 2), (0, 0))) for x in (k, v))
            lengths["query_seq_lengths"] = jnp.full((batch,), tokens, jnp.int32)
            lengths["key_value_seq_lengths"] = jnp.full((batch,), seen, jnp.int32)
        q, k, v = (rearrange(x, "b t (n d) -> b t n d", n=self.heads) for x in (q, k, v))
        mixed = jax.nn.dot_product_attention(q, k, v, bias, implementation="cudnn", **lengths)
        return rearrange(mixed, "b t n d -> b t (n d)")[:, :tokens]

    def _plain(self, q, k, v, bias, dropping, wanted):
        """Two matrix products and a softmax between: [M, T, D]."""
        uneven = -k.shape[1] % 8 if jax.default_backend() == "cpu" else 0
        if uneven and not dropping and not wanted:
            # The CPU's products of 197 columns take twice the time of those of 200.
            bias = jnp.zeros((1, 1, 1, k.shape[1])) if bias is None else bias
            bias = jnp.pad(bias, ((0, 0),) * 3 + ((0, uneven),), constant_values=-jnp.inf)
            k, v = (jnp.pad(x, ((0, 0), (0, uneven), (0, 0))) for x in (k, v))
        # Heads-first matrix products ran faster on CPU than the "bqhd,bkhd->bhqk" einsum.
        q, k, v = (rearrange(x, "b t (n d) -> b n t d", n=self.heads) for x in (q, k, v))
        scores = jnp.matmul(q / math.sqrt(q.shape[-1]), k.swapaxes(-1, -2))
        scores = scores.astype(jnp.float32)
        if bias is not None:
            scores = scores + bias
        if dropping or wanted:
            weights = nn.softmax(scores, axis=-1)
            if wanted:
                self.sow("intermediates", self.sow_as, weights)
            drop = nn.Dropout(self.dropout, deterministic=not dropping)
            mixed = jnp.matmul(drop(weights.astype(self.dtype)), v)
        else:
            mixed = softmax_average(scores, v)
        return rearrange(mixed, "b n t d -> b t (n d)")


class MLP(nn.Module):
    """Two dense layers with an exact GELU between them, [..., D] -> [..., D]."""

    hidden: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        """Maps float [..., D] to float [..., D]."""
        hidden = gelu(dense(self.hidden, "fc1", self.dtype)(x))
        return dense(x.shape[-1], "fc2", self.dtype)(hidden)


class TokenGate(nn.Module):
    """The ATP gate: how far a text token lets its associated patches in.

    g_t = 2 sigmoid(w . [h_t; c_t] + b) in (0, 2) with w = b = 0 at the start, so that
    g is exactly 1 and a model without gates computes the same numbers.
    """

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, token, associated):
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
    def __call__(self, x, rate):
        """Drops rows of x [B, T, D] with probability `rate`, scales the others by 1 / (1 - rate).

        `rate` may be traced (it differs per layer).
        """
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - rate, (x.shape[0], 1, 1))
        return jnp.where(keep, x / (1.0 - rate).astype(x.dtype), jnp.zeros((), x.dtype))
