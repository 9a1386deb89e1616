"""The operations as their formulas, for every platform.

M rows of T tokens attend B rows of S tokens; D width, N heads.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from cada_jax.common.shapes import AnyArray, Array, Bool, Float, Float32, Int
from cada_jax.models.ops import random_bits

FEW_LAYERS = 4  # up to so many are written out: few are compiled soon


class Ops(NamedTuple):
    """What a platform may do in its own way.

    Every entry is a function of this file's signature. The methods put them together; a platform
    that has a kernel for the whole overrides them.
    """

    flat: Callable[..., Array]
    product: Callable[..., Array]
    add_bias: Callable[..., Array]
    layer_norm: Callable[..., Array]
    attention: Callable[..., Array]
    unroll: Callable[[int], int]

    def dense(
        self,
        x: Float[AnyArray, "*rows D"],
        kernel: Float[AnyArray, "D F"],
        bias: Float32[AnyArray, "F"],
    ) -> Float[Array, "*rows F"]:
        """X @ kernel + bias in the type of x, [..., F]."""
        return self.add_bias(self.product(x, kernel), bias)

    def project_and_attend(
        self,
        queries: Float[AnyArray, "M T D"],
        seen: Float[AnyArray, "B S Dk"],
        maps: Sequence[tuple[AnyArray, AnyArray]],
        heads: int,
        bias: Float32[AnyArray, "M #T S"] | None = None,
        index: Int[AnyArray, "G rows"] | None = None,
        draw: random_bits.Draw | None = None,
    ) -> Float[Array, "M T D"]:
        """`attention` of what three dense layers make of queries and of `seen`, [M,T,D].

        Args:
          queries: float [M,T,D].
          seen: float [B,S,Dk]; without an index M / B rows after each other attend the same.
          maps: (kernel, bias) of queries, of keys and of values.
          heads: N.
          bias: as of `attention`, as the index.
          index: int32 [G,M/G].
          draw: which weights are dropped.
        """
        q, *kv = self.project(queries, seen, maps, index)
        seeds, rate = (draw.own_seeds, draw.rate) if draw else (None, 0.0)
        mixed = self.attention(q, tuple(kv), heads, bias, index, seeds, rate)
        return mixed.reshape(queries.shape)

    def project(
        self,
        queries: Float[AnyArray, "M T D"],
        seen: Float[AnyArray, "B S Dk"],
        maps: Sequence[tuple[AnyArray, AnyArray]],
        index: Int[AnyArray, "G rows"] | None = None,
    ) -> list[Float[Array, "_ _ D"]]:
        """Queries, keys and values as `attention` takes them; arguments as of the whole."""
        rows, width = self.flat(queries), queries.shape[-1]
        seen_rows = rows if seen is queries else self.flat(seen)
        inputs = rows, seen_rows, seen_rows
        q, k, v = (self.dense(x, *m) for x, m in zip(inputs, maps, strict=True))
        k, v = (x.reshape(*seen.shape[:2], width) for x in (k, v))
        return [q.reshape(len(k) if index is None else len(queries), -1, width), k, v]

    def add_and_norm(
        self,
        x: Float[AnyArray, "M T D"],
        branch: tuple[Float[AnyArray, "M T D"], Float32[AnyArray, "D"]],
        norm: tuple[Float32[AnyArray, "D"], Float32[AnyArray, "D"]],
        epsilon: float,
        draw: random_bits.Draw | None = None,
        gate: tuple[Float32[AnyArray, "2*D 1"], Float32[AnyArray, "1"]] | None = None,
    ) -> Float[Array, "M T D"]:
        """LayerNorm(x + g b), b = dropout(y + bias).

        Args:
          x: float [M,T,D].
          branch: y [M,T,D], the product of a dense layer, and its bias.
          norm: scale and shift.
          epsilon: added to the variance.
          draw: what is dropped.
          gate: kernel and bias of `token_gate`, which gives g; None: g is 1.
        """
        y = dropout(self.add_bias(*branch), draw)
        if gate is not None:
            y = token_gate(x, y, *gate).astype(y.dtype) * y
        return self.layer_norm(x + y, *norm, epsilon)

    def sum_and_norm(
        self,
        x: Float[AnyArray, "M T D"],
        branch: tuple[Float[AnyArray, "M T D"], Float32[AnyArray, "D"]],
        norm: tuple[Float32[AnyArray, "D"], Float32[AnyArray, "D"]],
        epsilon: float,
    ) -> tuple[Float[Array, "M T D"], Float[Array, "M T D"]]:
        """(x + y + bias, LayerNorm of it); arguments as of `add_and_norm`."""
        total = jnp.asarray(x) + self.add_bias(*branch)
        return total, self.layer_norm(total, *norm, epsilon)

    def mlp(
        self,
        x: Float[AnyArray, "*rows D"],
        first: tuple[Float[AnyArray, "D F"], Float32[AnyArray, "F"]],
        second: Float[AnyArray, "F D"],
    ) -> Float[Array, "*rows D"]:
        """GELU of a dense layer times another's kernel, [..., D], without the bias of that."""
        return self.product(gelu(self.dense(x, *first)), second)


def flat(x: Float[AnyArray, "*rows D"]) -> Float[Array, "_ D"]:
    """Rows of [..., D] as the dense layers that share them take them.

    Flatten once and reuse: the backward pass would otherwise store the array in both shapes.
    """
    return jnp.asarray(x).reshape(-1, x.shape[-1])


def product(
    x: Float[AnyArray, "*rows D"], kernel: Float[AnyArray, "D F"]
) -> Float[Array, "*rows F"]:
    """X @ kernel in the type of x, [..., F].

    XLA's CPU backend has a fast routine for products of two dimensions alone: the gradient of a
    kernel took 2.4 times as long from [B, T, D].
    """
    return (flat(x) @ kernel.astype(x.dtype)).reshape(*x.shape[:-1], -1)


def add_bias(
    x: Float[AnyArray, "*rows F"], bias: Float32[AnyArray, "F"]
) -> Float[Array, "*rows F"]:
    """X [..., F] + bias in the type of x."""
    return jnp.asarray(x) + for_each_row(bias.astype(x.dtype), x)


# What costs little is computed again by the backward pass from its input, the one array that is
# kept. In a scan the compiler could merge the recomputation with nothing: no `prevent_cse`.
@functools.partial(jax.checkpoint, prevent_cse=False)
def gelu(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """The exact GELU, x/2 (1 + erf(x / sqrt 2)), which both BERT and ViT use.

    `nn.gelu` writes it with erfc, which takes the CPU six times as long.
    """
    return 0.5 * x * (1.0 + jax.lax.erf(x * np.asarray(math.sqrt(0.5), x.dtype)))


def token_gate(
    token: Float[AnyArray, "M T D"],
    associated: Float[AnyArray, "M T D"],
    kernel: Float[AnyArray, "2*D 1"],
    bias: Float32[AnyArray, "1"],
) -> Float32[Array, "M T 1"]:
    """The gate 2 sigmoid(w . [token; associated] + b) of every token, in (0, 2).

    In float32: near its start the gate's changes are smaller than bfloat16 can hold.
    """
    logit = bias[None, None]
    for part, rows in zip((token, associated), jnp.split(kernel, 2), strict=True):
        logit += jnp.einsum("mtd,do->mto", part.astype(jnp.float32), rows)
    return 2.0 * jax.nn.sigmoid(logit)


def dropout(
    x: Float[AnyArray, "M *places"], draw: random_bits.Draw | None
) -> Float[Array, "M *places"]:
    """Zeroes numbers of x [M,...] with a probability p, scales the others by 1 / (1 - p)."""
    return jnp.asarray(x) if draw is None else _drop(x, draw.own_seeds, draw.rate)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _drop(x, seeds, rate):
    """Dropout whose backward pass computes the mask again from the seeds."""
    places = jax.lax.broadcasted_iota(jnp.int32, (1, x[0].size), 1).reshape(1, *x.shape[1:])
    first, second = (seeds[:, i].reshape(-1, *(1,) * (x.ndim - 1)) for i in (0, 1))
    keep = random_bits.kept(random_bits.hashed(places, first, second), rate)
    scale = jnp.asarray(random_bits.keep_scale(rate), x.dtype)
    return jnp.where(keep, x * scale, jnp.zeros((), x.dtype))


_drop.defvjp(
    lambda x, seeds, rate: (_drop(x, seeds, rate), seeds),
    lambda rate, seeds, grad: (_drop(grad, seeds, rate), None),
)


@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=(3,))
def layer_norm(
    x: Float[AnyArray, "*rows D"],
    scale: Float32[AnyArray, "D"],
    bias: Float32[AnyArray, "D"],
    epsilon: float,
) -> Float[Array, "*rows D"]:
    """LayerNorm of [..., D] with float32 statistics; the two-pass variance loses no digits.

    The backward pass keeps the input alone: intermediate results were a third of what a layer kept.
    """
    wide = jnp.asarray(x, jnp.float32)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    normal = centred * jax.lax.rsqrt(variance + epsilon)
    return jnp.asarray(normal * for_each_row(scale, x) + for_each_row(bias, x), x.dtype)


def for_each_row(values: Float[AnyArray, "D"], x: Float[AnyArray, "*rows D"]) -> AnyArray:
    """Values float [D] with as many axes as x [..., D]."""
    return values.reshape(*(1,) * (x.ndim - 1), -1)


def attention(
    q: Float[AnyArray, "M T D"],
    kv: tuple[Float[AnyArray, "B S D"], Float[AnyArray, "B S D"]],
    heads: int,
    bias: Float32[AnyArray, "M #T S"] | None = None,
    index: Int[AnyArray, "G rows"] | None = None,
    seeds: Int[AnyArray, "M 2"] | None = None,
    rate: float = 0.0,
) -> Float[Array, "M T D"]:
    """softmax(q k' / sqrt(d) + bias) v, head by head, with dropout of the weights.

    Args:
      q: heads after each other in D.
      kv: keys and values.
      heads: N; divides D.
      bias: no gradient flows to it.
      index: in [0,B/G), what each row attends. Rows and what they attend come in G groups of equal
        size; a device that holds whole groups needs nothing of another. None: B = M, and each
        attends its own.
      seeds: of `random_bits.row_seeds`, to drop weights; None drops none.
      rate: probability that a weight is dropped, in [0,1).
    """
    k, v = kv if index is None else (attended(x, index) for x in kv)
    return mixed_values(attention_weights(q, k, heads, bias), v, seeds, rate)


def attention_weights(
    q: Float[AnyArray, "M T D"],
    k: Float[AnyArray, "M S D"],
    heads: int,
    bias: Float32[AnyArray, "M #T S"] | None = None,
) -> Float32[Array, "M N T S"]:
    """softmax(q k' / sqrt(d) + bias), float32 [M,N,T,S]; arguments as of `attention`."""
    q, k = (rearrange(x, "b t (n d) -> b n t d", n=heads) for x in (q, k))
    # Heads-first products ran faster on a CPU than the "bqhd,bkhd->bhqk" einsum.
    scores = (q / math.sqrt(q.shape[-1]) @ k.swapaxes(-1, -2)).astype(jnp.float32)
    return jax.nn.softmax(scores if bias is None else scores + bias[:, None], axis=-1)


def mixed_values(
    weights: Float32[AnyArray, "M N T S"],
    v: Float[AnyArray, "M S D"],
    seeds: Int[AnyArray, "M 2"] | None = None,
    rate: float = 0.0,
) -> Float[Array, "M T D"]:
    """Values mixed by the weights, of which dropout takes some; arguments as of `attention`."""
    if seeds is not None and rate:
        kept = kept_weights(seeds, weights.shape, rate)
        weights = jnp.where(kept, weights * random_bits.keep_scale(rate), 0.0)
    v = rearrange(jnp.asarray(v), "b s (n d) -> b n s d", n=weights.shape[1])
    return rearrange(jnp.asarray(weights, v.dtype) @ v, "b n t d -> b t (n d)")


def attended(x: Float[AnyArray, "B S D"], index: Int[AnyArray, "G rows"]) -> Float[Array, "_ S D"]:
    """What each row attends, [M,S,D]; `index` as of `attention`."""
    groups = x.reshape(len(index), -1, *x.shape[1:])
    return jax.vmap(lambda group, rows: group[rows])(groups, index).reshape(-1, *x.shape[1:])


def kept_weights(
    seeds: Int[AnyArray, "M 2"], shape: tuple[int, ...], rate: float
) -> Bool[Array, "M N T S"]:
    """Which attention weights [M,N,T,S] dropout keeps: two heads share a word of bits."""
    _, heads, tokens, seen = shape
    head, row, column = (jax.lax.broadcasted_iota(jnp.int32, shape[1:], axis) for axis in range(3))
    place = (head // 2 * tokens + row) * seen + column
    first, second = (seeds[:, i].reshape(-1, 1, 1, 1) for i in (0, 1))
    return random_bits.kept(random_bits.hashed(place[None], first, second), rate, head % 2)


def unroll(depth: int) -> int:
    """How many layers of a scan become straight code: all of few, or one.

    A scan copies what every layer keeps into arrays of all layers and back out, a tenth of a step
    of few layers on a CPU. Many layers ran no faster for it, and took longer to compile.
    """
    return depth if depth <= FEW_LAYERS else 1


OPS = Ops(flat, product, add_bias, layer_norm, attention, unroll)
