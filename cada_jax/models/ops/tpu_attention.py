"""Attention of short sequences in one kernel of a TPU: scores, softmax, dropout and values.

A head's scores of 197 x 197 fit the fast memory of a TPU's core. Written as two products and a
softmax, they travel to the chip's memory and back several times, and the backward pass keeps them;
here they never leave, and the backward pass computes them again from queries and keys. The idea is
that of flash attention (Dao et al., 2022) without its blocks, which such short sequences need not.

A head of 64 fills half of a TPU's 128 lanes. The heads are therefore worked on in pairs: the lanes
of the other head are set to zero before a product that sums over them, which costs the matrix unit
nothing, for it works on 128 lanes in any case.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec

from cada_jax.common.shapes import AnyArray, Array, Float, Float32, Int
from cada_jax.distributed.mesh import BATCH_AXES, batch_divisor, current_mesh
from cada_jax.models.ops import random_bits

LANES = 128
# Entries of a head's scores up to which they, and what is made of them, fit the fast memory.
MOST_SCORES = 256 * 1024
# What a kernel may use of the fast memory, of 128 MiB on v5e and v6e; the compiler's bound is 16.
FAST_MEMORY = 64 * 2**20


def fits(width: int, heads: int, tokens: int, seen: int, groups: int) -> bool:
    """Whether the kernel computes attention of these sizes on the mesh of JAX's context.

    `width` is that of queries over all heads. A device must get whole groups of sequences and what
    they attend, and whole pairs of heads.
    """
    mesh = current_mesh()
    shards, tensor = (1, 1) if mesh is None else (batch_divisor(mesh), mesh.shape["tensor"])
    pairs = 2 * width == heads * LANES and heads % (2 * tensor) == 0
    return pairs and groups % shards == 0 and tokens * seen <= MOST_SCORES


def _product(a, b, dims):
    """Sums over one dimension of each, given as (of a, of b); float32."""
    contract = (((dims[0],), (dims[1],)), ((), ()))
    return jax.lax.dot_general(a, b, contract, preferred_element_type=jnp.float32)


def _halves(x):
    """The two heads of a pair [T, 128], each with the other's lanes at zero."""
    first = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1) < LANES // 2
    zero = jnp.zeros((), x.dtype)
    return jnp.where(first, x, zero), jnp.where(first, zero, x)


def _exps(q, k, bias):
    """exp(scores - their maximum), float32 [T, S], and their sums, [T, 1]."""
    scores = _product(q, k, (1, 1)) * (1 / math.sqrt(LANES // 2))
    if bias is not None:
        scores = scores + bias
    exps = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    return exps, jnp.sum(exps, axis=-1, keepdims=True)


def _bits(seeds_ref, row, pair, shape: tuple[int, int]):
    """Random bits of a pair's two heads, int32 [T, S]: 16 for the first, 16 for the second.

    As `plain.kept_weights` lays them out; `pair` counts over all devices that share the heads.
    """
    tokens, seen = shape
    places = jax.lax.broadcasted_iota(jnp.int32, shape, 0) * seen
    places = places + jax.lax.broadcasted_iota(jnp.int32, shape, 1) + pair * tokens * seen
    return random_bits.hashed(places, seeds_ref[row, 0], seeds_ref[row, 1])


def _forward_kernel(order_ref, image_ref, seeds_ref, first_ref, *refs, rate: float):
    """One sequence, every pair of heads in turn.

    `refs`: queries, keys, values, bias or not, the output.
    """
    del image_ref
    q_ref, k_ref, v_ref, *rest = refs
    bias, out_ref = (rest[0][0], rest[1]) if len(rest) == 2 else (None, rest[0])
    row = order_ref[pl.program_id(0)]
    for pair in range(q_ref.shape[-1] // LANES):
        lanes = slice(pair * LANES, (pair + 1) * LANES)
        k, v = k_ref[0, :, lanes], v_ref[0, :, lanes]
        shape = q_ref.shape[1], k.shape[0]
        bits = _bits(seeds_ref, row, first_ref[0] + pair, shape) if rate else None
        mixed = []
        for half, q in enumerate(_halves(q_ref[0, :, lanes])):
            exps, total = _exps(q, k, bias)
            if bits is not None:
                exps = jnp.where(random_bits.kept(bits, rate, half), exps, 0.0)
            scale = random_bits.keep_scale(rate) / total
            mixed.append(_product(exps.astype(v.dtype), v, (1, 0)) * scale)
        first = jax.lax.broadcasted_iota(jnp.int32, mixed[0].shape, 1) < LANES // 2
        out_ref[0, :, lanes] = jnp.where(first, mixed[0], mixed[1]).astype(out_ref.dtype)


def _pair_gradients(q, k, v, grad, bias, bits, rate: float):
    """Gradients of a pair's queries [T, 128], keys and values [S, 128], float32."""
    of_queries, of_keys, of_values = [], 0.0, 0.0
    for half, (one, of_one) in enumerate(zip(_halves(q), _halves(grad), strict=True)):
        exps, total = _exps(one, k, bias)
        weights = exps / total
        of_weights, dropped = _product(of_one, v, (1, 1)), weights
        if bits is not None:
            keep, scale = random_bits.kept(bits, rate, half), random_bits.keep_scale(rate)
            of_weights = jnp.where(keep, of_weights * scale, 0.0)
            dropped = jnp.where(keep, weights * scale, 0.0)
        common = jnp.sum(weights * of_weights, axis=-1, keepdims=True)
        of_scores = (weights * (of_weights - common)).astype(k.dtype)
        of_queries.append(_product(of_scores, k, (1, 0)))
        # Of one head only its own lanes are not zero, so the two heads' are added.
        of_keys += _product(of_scores, one, (0, 0))
        of_values += _product(dropped.astype(k.dtype), of_one, (0, 0))
    scale = 1 / math.sqrt(LANES // 2)
    first = jax.lax.broadcasted_iota(jnp.int32, of_queries[0].shape, 1) < LANES // 2
    return jnp.where(first, of_queries[0], of_queries[1]) * scale, of_keys * scale, of_values


def _backward_kernel(order_ref, image_ref, seeds_ref, first_ref, *refs, rate: float):
    """The gradients of one sequence's queries, and its share of its keys' and values'.

    Sequences that attend the same image follow each other: their shares are added up in float32,
    and what is written last is the whole. `refs`: queries, keys, values, gradient, bias or not,
    the three outputs, and room for the two sums.
    """
    q_ref, k_ref, v_ref, grad_ref, *rest = refs
    bias, rest = (rest[0][0], rest[1:]) if len(rest) == 6 else (None, rest)
    of_query_ref, of_key_ref, of_value_ref, *sums = rest
    step = pl.program_id(0)
    row, image = order_ref[step], image_ref[step]
    first_of_image = (step == 0) | (image != image_ref[jnp.maximum(step - 1, 0)])

    @pl.when(first_of_image)
    def _():
        for ref in sums:
            ref[...] = jnp.zeros(ref.shape, ref.dtype)

    for pair in range(q_ref.shape[-1] // LANES):
        lanes = slice(pair * LANES, (pair + 1) * LANES)
        q, k, v, grad = (ref[0, :, lanes] for ref in (q_ref, k_ref, v_ref, grad_ref))
        shape = q_ref.shape[1], k_ref.shape[1]
        bits = _bits(seeds_ref, row, first_ref[0] + pair, shape) if rate else None
        of_query, *shares = _pair_gradients(q, k, v, grad, bias, bits, rate)
        of_query_ref[0, :, lanes] = of_query.astype(of_query_ref.dtype)
        for ref, total, share in zip((of_key_ref, of_value_ref), sums, shares, strict=True):
            total[:, lanes] = total[:, lanes] + share
            ref[0, :, lanes] = total[:, lanes].astype(ref.dtype)


# Of each kernel the products of [T, S] with 64 numbers, and how many sums [S, D] it adds up.
PASSES = {
    "attention_forward": (_forward_kernel, 2, 0),
    "attention_backward": (_backward_kernel, 5, 2),
}


def _of_row(x):
    """A sequence's block of [M, ...]; what is prefetched says which sequence is next."""
    return pl.BlockSpec((1, *x.shape[1:]), lambda step, order, *_: (order[step], 0, 0))


def _of_image(x):
    """The block of [I, ...] that the sequence attends."""
    return pl.BlockSpec((1, *x.shape[1:]), lambda step, order, image, *_: (image[step], 0, 0))


def _call(name: str, rate: float, prefetched, arrays, specs, outputs, interpret: bool):
    """Runs a kernel of `PASSES` once for each sequence; specs: of arrays, then of outputs.

    prefetched: int32, order [M] of the sequences, image [M] of each in that order, seeds [M, 2],
    number of the first pair of heads [1].
    """
    q, k = arrays[:2]
    rows, tokens, width = q.shape
    scores = rows * (2 * width // LANES) * tokens * k.shape[1]
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in (*arrays, *outputs))
    kernel, products, sums = PASSES[name]
    return pl.pallas_call(
        functools.partial(kernel, rate=rate),
        out_shape=outputs,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(prefetched),
            grid=(rows,),
            in_specs=specs[: len(arrays)],
            out_specs=specs[len(arrays) :],
            scratch_shapes=[pltpu.VMEM(k.shape[1:], jnp.float32)] * sums,
        ),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("arbitrary",), vmem_limit_bytes=FAST_MEMORY
        ),
        # The arithmetic of attention itself: not that of lanes set to zero.
        cost_estimate=pl.CostEstimate(
            flops=products * 2 * scores * (LANES // 2), bytes_accessed=size, transcendentals=scores
        ),
        name=name,
        interpret=interpret,
    )(*prefetched, *arrays)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _attention(q, kv, bias, image, seeds, rate, interpret):
    """kv: keys and values; image: int32 [M], what each attends; seeds: of rows, and first pair."""
    arrays = (q, *kv) if bias is None else (q, *kv, bias)
    specs = [_of_row(q), *map(_of_image, kv)]
    specs += [_of_row(x) for x in (bias, q) if x is not None]
    prefetched = jnp.arange(len(q), dtype=jnp.int32), image, *seeds
    out = [jax.ShapeDtypeStruct(q.shape, q.dtype)]
    return _call("attention_forward", rate, prefetched, arrays, specs, out, interpret)[0]


def _attention_forward(q, kv, bias, image, seeds, rate, interpret):
    out = _attention(q, kv, bias, image, seeds, rate, interpret)
    return out, (q, kv, bias, image, seeds)


def _attention_backward(rate, interpret, inputs, grad):
    q, kv, bias, image, seeds = inputs
    order = jnp.argsort(image, stable=True).astype(jnp.int32)
    arrays = (q, *kv, grad) if bias is None else (q, *kv, grad, bias)
    specs = [_of_row(q), *map(_of_image, kv)]
    specs += [_of_row(x) for x in (grad, bias, q) if x is not None]
    specs += map(_of_image, kv)
    outputs = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (q, *kv)]
    prefetched = order, image[order], *seeds
    of_q, *of_kv = _call("attention_backward", rate, prefetched, arrays, specs, outputs, interpret)
    # What nobody attends is never written.
    attended = jnp.zeros(len(kv[0]), bool).at[image].set(True)[:, None, None]
    of_kv = tuple(jnp.where(attended, x, jnp.zeros((), x.dtype)) for x in of_kv)
    return of_q, of_kv, None if bias is None else jnp.zeros_like(bias), None, None


_attention.defvjp(_attention_forward, _attention_backward)


def fused_attention(
    q: Float[AnyArray, "M T D"],
    kv: tuple[Float[AnyArray, "B S D"], Float[AnyArray, "B S D"]],
    bias: Float32[AnyArray, "M #T S"] | None = None,
    index: Int[AnyArray, "G rows"] | None = None,
    seeds: Int[AnyArray, "M 2"] | None = None,
    rate: float = 0.0,
    interpret: bool = False,
) -> Float[Array, "M T D"]:
    """`plain.attention` of heads of 64, on each device of the mesh of JAX's context.

    Sizes are those that `fits`, and a device must hold whole groups of the index. `interpret`
    computes the same on any platform, slowly; for tests.
    """
    rate = 0.0 if seeds is None else rate
    seeds = jnp.zeros((len(q), 2), jnp.int32) if seeds is None else seeds
    index = jnp.zeros((len(q), 1), jnp.int32) if index is None else index

    def on_device(q, kv, bias, index, seeds, part=0):
        size = len(kv[0]) // len(index)  # of a group
        start = jnp.arange(len(index), dtype=jnp.int32)[:, None] * size
        image = (start + index.astype(jnp.int32)).reshape(-1)
        first = jnp.full((1,), part * (q.shape[-1] // LANES), jnp.int32)
        return _attention(q, kv, bias, image, (seeds, first), rate, interpret)

    mesh = current_mesh()
    if mesh is None or mesh.size == 1:
        return on_device(q, kv, bias, index, seeds)

    def on_one_of_many(q, kv, bias, index, seeds):
        split = mesh.shape["tensor"] > 1
        part = jax.lax.axis_index("tensor").astype(jnp.int32) if split else 0
        return on_device(q, kv, bias, index, seeds, part)

    heads, rows = PartitionSpec(BATCH_AXES, None, "tensor"), PartitionSpec(BATCH_AXES)
    return jax.shard_map(
        on_one_of_many,
        mesh=mesh,
        in_specs=(heads, (heads, heads), rows, rows, rows),
        out_specs=heads,
        check_vma=False,
    )(q, kv, bias, index, seeds)
