"""Multi-head attention: the plain form, and a fused kernel where there is one."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax.typing import DTypeLike

from cada_jax.common.shapes import AnyArray, Array, Float, Float32, Int
from cada_jax.distributed.mesh import current_device, on_cpu, on_tpu
from cada_jax.models.dropout import row_keys
from cada_jax.models.fused_attention import fits, fused_attention
from cada_jax.models.layers import dense

# BERT's value for "do not attend". exp(-10000) is exactly 0 in float32, so nothing leaks.
MASKED = -10000.0
# From so many on a product is made even: of 37 or 49 columns that cost a twentieth of a step.
MANY_COLUMNS = 64
# In the names of NVIDIA's GPUs that cuDNN's fused attention does not run on.
BEFORE_AMPERE = (
    "K80",
    "P100",
    "P40",
    "P4",
    "V100",
    "T4",
    "GTX",
    "GeForce RTX 20",
    "TITAN",
    "Quadro",
)


def can_fuse(
    dtype: DTypeLike,
    dropping: bool,
    sowing: bool,
    bias: Float[AnyArray, "#M #N #T #S"] | None,
    tokens: int,
) -> bool:
    """Whether cuDNN's fused (flash) attention computes what `Attention` was asked for.

    It needs an NVIDIA GPU from Ampere on and a 16-bit type, drops no weights by our keys and never
    forms the weights. Its gradient with a bias needs even numbers of tokens.

    Args:
      dtype: of the activations.
      dropping: attention weights are dropped.
      sowing: somebody wants to see the weights.
      bias: float, broadcastable to [M, N, T, S], or None.
      tokens: T, with a bias S = T too.
    """
    device = current_device()
    if device is None or device.platform not in ("gpu", "cuda") or dropping or sowing:
        return False
    if jnp.dtype(dtype).itemsize != 2 or any(old in device.device_kind for old in BEFORE_AMPERE):
        return False
    return bias is None or (tokens % 2 == 0 and bias.shape[-1] == tokens)


def _attended(
    x: Float[Array, "B S D"], index: Int[AnyArray, "M"] | Int[AnyArray, "G rows"]
) -> Float[Array, "_ S D"]:
    """Keys or values [B, ...] of each row, [M, ...]; see `kv_index` of `Attention`."""
    if index.ndim == 1:
        return x[index]
    groups = x.reshape(len(index), -1, *x.shape[1:])
    return jax.vmap(lambda group, rows: group[rows])(groups, index).reshape(-1, *x.shape[1:])


@jax.custom_vjp
def softmax_average(
    scores: Float32[AnyArray, "*rows T S"], values: Float[AnyArray, "*rows S d"]
) -> Float[Array, "*rows T d"]:
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
    dtype: DTypeLike = jnp.float32
    sow_as: str | None = None

    @nn.compact
    def __call__(
        self,
        queries: Float[AnyArray, "M T D"],
        keys_values: Float[AnyArray, "B S Dk"],
        bias: Float[AnyArray, "#M #N #T #S"] | None = None,
        kv_index: Int[AnyArray, "M"] | Int[AnyArray, "G rows"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "M T D"]:
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
        # Flattened once: of equal arrays of two shapes the backward pass would keep both. A TPU
        # pads every sequence in memory, and would copy it to flatten it.
        rows = queries if on_tpu() else queries.reshape(-1, width)
        seen = keys_values if on_tpu() else keys_values.reshape(-1, keys_values.shape[-1])
        seen = rows if keys_values is queries else seen
        q = dense(width, "query", self.dtype)(rows)
        k = dense(width, "key", self.dtype)(seen).reshape(*keys_values.shape[:2], width)
        v = dense(width, "value", self.dtype)(seen).reshape(*keys_values.shape[:2], width)
        q = q.reshape(len(k) if kv_index is None else kv_index.size, -1, width)
        dropping = self.dropout > 0 and not deterministic
        sowing = bool(self.sow_as) and self.is_mutable_collection("intermediates")
        if self._has_kernel(q, k, bias, kv_index, sowing):
            keys = row_keys(self, len(q)) if dropping else None
            if bias is not None:
                bias = jnp.broadcast_to(bias[:, 0], (len(q), *bias.shape[2:]))
            rate = self.dropout if dropping else 0.0
            mixed = fused_attention(q, (k, v), bias, kv_index, keys, rate)
            return dense(width, "out", self.dtype)(mixed.reshape(shape))
        if kv_index is not None:
            k, v = _attended(k, kv_index), _attended(v, kv_index)
        if can_fuse(self.dtype, dropping, sowing, bias, q.shape[1]):
            mixed = self._fused(q, k, v, bias)
        else:
            mixed = self._plain(q, k, v, bias, dropping, sowing)
        return dense(width, "out", self.dtype)(mixed.reshape(-1, width)).reshape(shape)

    def _has_kernel(self, q, k, bias, kv_index, sowing) -> bool:
        """Whether `fused_attention` computes this: on a TPU, where nobody looks at the weights."""
        alike = bias is None or bias.shape[1] == 1
        groups = len(k)
        if kv_index is not None:  # any row may attend any image of its group
            groups = len(kv_index) if kv_index.ndim == 2 else 1
        sizes = q.shape[-1], self.heads, q.shape[1], k.shape[1], groups
        return on_tpu() and not sowing and alike and fits(*sizes)

    def _fused(self, q, k, v, bias):
        """The kernel of cuDNN, which keeps neither products nor weights: [M, T, D]."""
        batch, tokens, seen = q.shape[0], q.shape[1], k.shape[1]
        lengths: dict[str, Any] = {}
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

    def _plain(self, q, k, v, bias, dropping, sowing):
        """Two matrix products and a softmax between: [M, T, D]."""
        uneven = -k.shape[1] % 8 if on_cpu() and k.shape[1] >= MANY_COLUMNS else 0
        if uneven and not dropping and not sowing:
            # The CPU's products of 197 columns took twice the time of those of 200.
            bias = jnp.zeros((1, 1, 1, k.shape[1])) if bias is None else bias
            bias = jnp.pad(bias, ((0, 0),) * 3 + ((0, uneven),), constant_values=-jnp.inf)
            k, v = (jnp.pad(x, ((0, 0), (0, uneven), (0, 0))) for x in (k, v))
        # Heads-first matrix products ran faster on CPU than the "bqhd,bkhd->bhqk" einsum.
        q, k, v = (rearrange(x, "b t (n d) -> b n t d", n=self.heads) for x in (q, k, v))
        scores = jnp.matmul(q / math.sqrt(q.shape[-1]), k.swapaxes(-1, -2))
        scores = scores.astype(jnp.float32)
        if bias is not None:
            scores = scores + bias
        if dropping or sowing:
            weights = nn.softmax(scores, axis=-1)
            if sowing and self.sow_as:
                self.sow("intermediates", self.sow_as, weights)
            drop = nn.Dropout(self.dropout, deterministic=not dropping)
            mixed = jnp.matmul(drop(weights.astype(self.dtype)), v)
        else:
            mixed = softmax_average(scores, v)
        return rearrange(mixed, "b n t d -> b t (n d)")
