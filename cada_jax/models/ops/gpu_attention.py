"""Attention of short sequences in one kernel of an NVIDIA GPU: scores, softmax, dropout, values.

One program handles one head of one sequence: its keys and values lie in the multiprocessor, and the
queries pass by some at a time. Nothing of the size of the scores is written to memory; the backward
pass computes them again, for all sequences that attend the same keys in a row, so that no sums are
left to be added up by others. The idea is that of flash attention (Dao et al., 2022).

The queries', keys' and values' biases are added here, because their gradients are sums that the
kernel can make of what it has at hand.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from cada_jax.common.shapes import AnyArray, Array, Float, Float32, Int
from cada_jax.models.ops import random_bits
from cada_jax.models.ops.gpu_kernels import call, drawn, read, run, write
from cada_jax.models.ops.on_devices import ROWS, WHOLE, divides_rows, on_each_device
from cada_jax.models.ops.random_bits import Draw

# Tokens attended to up to which a head's keys, values and their gradients fit a multiprocessor.
MOST_SEEN = 256
LEAST = 16  # the smallest side of a product of Triton
# Operations on single numbers for each score, counted in the kernels: exponential, sums, masks; and
# of the hash that decides about it.
OPERATIONS = {"forward": 16, "backward": 28}
HASH = 12


class Case(NamedTuple):
    """What a kernel is made for.

    tokens, seen: of a sequence, and of what it attends; head: numbers of one; packed: queries, keys
    and values lie beside each other in one array; rate: of dropout; biased: there is a bias.
    """

    tokens: int
    seen: int
    head: int
    packed: bool
    rate: float
    biased: bool

    def columns(self, heads: int) -> tuple[int, int, int]:
        """Where the first head's queries, keys and values begin in their arrays."""
        width = heads * self.head
        return (0, width, 2 * width) if self.packed else (0, 0, width)

    def tiles(self) -> list[tuple[int, int]]:
        """(start, size) of the runs that the keys are worked on in, powers of two."""
        found, start = [], 0
        while start < self.seen:
            left = self.seen - start
            size = LEAST
            while size < 128 and 2 * size <= left:
                size *= 2
            found.append((start, size))
            start += size
        return found

    def step(self, most: int) -> int:
        """Queries that are worked on at once, `most` of them or fewer."""
        size = LEAST
        while size < most and size < self.tokens:
            size *= 2
        return size

    def warps(self) -> int:
        """Threads of a program, in 32."""
        return 8 if self.seen > 96 else 4


def _tokens(ref, row, start, size: int, most: int, column, head: int):
    """Tokens [size, head] of a sequence from `start`; zero from the `most`-th on."""
    inside = (start + jnp.arange(size) < most)[:, None]
    return read(ref, (row, run(start, size), pl.ds(column, head)), inside)


def _put_tokens(ref, row, start, x, most: int, column) -> None:
    inside = (start + jnp.arange(x.shape[0]) < most)[:, None]
    write(ref, (row, run(start, x.shape[0]), pl.ds(column, x.shape[1])), x, inside)


def _product(a, b, **transposed):
    exact = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return plgpu.dot(a, b, precision=exact, **transposed)


def _total(parts: list) -> Any:
    return functools.reduce(jnp.add, parts)


class _Head:
    """One program's view: which head, where its columns are, its biases and its keys and values."""

    def __init__(self, case: Case, refs: dict[str, Any], head):
        self.case, self.refs, self.number = case, refs, head
        heads = refs["shifts"].shape[1] // case.head
        self.at = head * case.head
        self.of_q, self.of_k, self.of_v = (c + self.at for c in case.columns(heads))
        places = [(run(i, 1), pl.ds(self.at, case.head)) for i in range(3)]
        self.shifts = [read(refs["shifts"], p, None).reshape(-1) for p in places]

    def queries(self, row, start, size: int):
        """[size, head], bias added."""
        case = self.case
        q = _tokens(self.refs["q"], row, start, size, case.tokens, self.of_q, case.head)
        return q + self.shifts[0].astype(q.dtype)[None]

    def keys_values(self, image):
        """Those of an image, a list of (keys, values) by tiles, biases added."""
        case, ref = self.case, self.refs["q" if self.case.packed else "kv"]
        found = []
        for start, size in case.tiles():
            k, v = (
                _tokens(ref, image, start, size, case.seen, column, case.head)
                for column in (self.of_k, self.of_v)
            )
            shifts = (shift.astype(k.dtype)[None] for shift in self.shifts[1:])
            found.append(tuple(x + shift for x, shift in zip((k, v), shifts, strict=True)))
        return found

    def exps(self, q, keys_values, row, start):
        """exp(scores - their maximum) by tiles, float32 [size, tile], and their sums [size, 1]."""
        case, scores = self.case, []
        for (first, size), (k, _) in zip(case.tiles(), keys_values, strict=True):
            s = _product(q, k, trans_b=True) * (1 / math.sqrt(case.head))
            inside = (first + jnp.arange(size) < case.seen)[None]
            if case.biased:
                s = s + self._bias(row, start, q.shape[0], first, inside)
            scores.append(jnp.where(inside, s, -jnp.inf) if first + size > case.seen else s)
        most = functools.reduce(jnp.maximum, [jnp.max(s, axis=1) for s in scores])[:, None]
        exps = [jnp.exp(s - most) for s in scores]
        return exps, _total([jnp.sum(e, axis=1) for e in exps])[:, None]

    def _bias(self, row, start, rows: int, first: int, inside):
        ref = self.refs["bias"]
        if ref.shape[1] == 1:  # the same for every query
            return read(ref, (row, pl.ds(0, 1), run(first, inside.shape[1])), inside)
        inside = inside & (start + jnp.arange(rows) < self.case.tokens)[:, None]
        return read(ref, (row, run(start, rows), run(first, inside.shape[1])), inside)

    def kept(self, row, start, rows: int) -> list:
        """By tiles, which weights [rows, tile] are not dropped; two heads share a hash."""
        case, words, place = self.case, self.refs["seeds"], self.refs["place"][0]
        seeds = [random_bits.fold(words[row, i], place) for i in (0, 1)]
        base = self.number // 2 * (case.tokens * case.seen)
        token = (start + jnp.arange(rows, dtype=jnp.int32))[:, None] * case.seen + base
        found = []
        for first, size in case.tiles():
            entry = token + (first + jnp.arange(size, dtype=jnp.int32))[None]
            bits = random_bits.hashed(entry, *seeds)
            halves = [random_bits.kept(bits, case.rate, half) for half in (0, 1)]
            found.append(jnp.where(self.number % 2 == 0, *halves))
        return found


def _forward(*refs, case: Case, names: Sequence[str]):
    refs = dict(zip(names, refs, strict=True))
    row, step = pl.program_id(0), case.step(64)
    head = _Head(case, refs, pl.program_id(1))
    keys_values = head.keys_values(refs["image"][row] if "image" in refs else row)

    def some_queries(i, _):
        start = i * step
        q = head.queries(row, start, step)
        exps, total = head.exps(q, keys_values, row, start)
        if case.rate:
            kept = head.kept(row, start, step)
            exps = [jnp.where(keep, e, 0.0) for keep, e in zip(kept, exps, strict=True)]
        mixed = sum(
            _product(e.astype(v.dtype), v) for e, (_, v) in zip(exps, keys_values, strict=True)
        )
        mixed = mixed * (random_bits.keep_scale(case.rate) / total)
        _put_tokens(refs["out"], row, start, mixed, case.tokens, head.at)
        return 0

    jax.lax.fori_loop(0, -(-case.tokens // step), some_queries, 0)


def _score_gradients(head: _Head, q, grad, keys_values, row, start):
    """By tiles, the gradient of the scores, and the weights after dropout; float32 [rows, tile]."""
    case, scale = head.case, random_bits.keep_scale(head.case.rate)
    exps, total = head.exps(q, keys_values, row, start)
    weights = [e / total for e in exps]
    dropped = weights
    of_weights = [_product(grad, v, trans_b=True) for _, v in keys_values]
    if case.rate:
        kept = head.kept(row, start, q.shape[0])
        dropped = [jnp.where(k, w * scale, 0.0) for k, w in zip(kept, weights, strict=True)]
        of_weights = [jnp.where(k, w * scale, 0.0) for k, w in zip(kept, of_weights, strict=True)]
    both = list(zip(weights, of_weights, strict=True))
    common = _total([jnp.sum(w * of_w, axis=1) for w, of_w in both])[:, None]
    return [w * (of_w - common) for w, of_w in both], dropped


def _backward(*refs, case: Case, names: Sequence[str]):
    refs = dict(zip(names, refs, strict=True))
    image, step = pl.program_id(0), case.step(32)
    head, steps = _Head(case, refs, pl.program_id(1)), -(-case.tokens // case.step(32))
    keys_values, scale = head.keys_values(image), 1 / math.sqrt(case.head)

    def some_queries(i, sums):
        row, start = image, i * step
        if "order" in refs:
            row = refs["order"][jax.lax.div(i, jnp.int32(steps))]
            start = jax.lax.rem(i, jnp.int32(steps)) * step
        q = head.queries(row, start, step)
        grad = _tokens(refs["grad"], row, start, step, case.tokens, head.at, case.head)
        of_scores, dropped = _score_gradients(head, q, grad, keys_values, row, start)
        of_scores = [s.astype(q.dtype) for s in of_scores]
        of_q = sum(_product(s, k) for s, (k, _) in zip(of_scores, keys_values, strict=True))
        of_q = jnp.where((start + jnp.arange(step) < case.tokens)[:, None], of_q * scale, 0.0)
        _put_tokens(refs["of_q"], row, start, of_q, case.tokens, head.of_q)
        of_shift, of_keys_values = sums
        added = []
        for (of_k, of_v), s, weights in zip(of_keys_values, of_scores, dropped, strict=True):
            of_v = of_v + _product(weights.astype(q.dtype), grad, trans_a=True)
            added.append((of_k + _product(s, q, trans_a=True), of_v))
        return of_shift + jnp.sum(of_q, axis=0), added

    zeros = [(jnp.zeros((size, case.head), jnp.float32),) * 2 for _, size in case.tiles()]
    first, end = 0, steps
    if "order" in refs:
        first, end = refs["first"][image] * steps, refs["first"][image + 1] * steps
    start = jnp.zeros((case.head,), jnp.float32), zeros
    of_shift, of_keys_values = jax.lax.fori_loop(first, end, some_queries, start)
    of_keys_values = [(k * scale, v) for k, v in of_keys_values]
    target = refs["of_q" if case.packed else "of_kv"]
    for (tile, _), (of_k, of_v) in zip(case.tiles(), of_keys_values, strict=True):
        _put_tokens(target, image, tile, of_k, case.seen, head.of_k)
        _put_tokens(target, image, tile, of_v, case.seen, head.of_v)
    # What lies beyond the last key has no weight, so its rows are zero.
    of_kv_shifts = (
        _total([jnp.sum(x, axis=0) for x in tiles]) for tiles in zip(*of_keys_values, strict=True)
    )
    for i, x in enumerate((of_shift, *of_kv_shifts)):
        write(refs["of_shifts"], (image, run(i, 1), pl.ds(head.at, case.head)), x[None], None)


def _cost(which: str, case: Case, rows: int, heads: int) -> dict[str, int]:
    """FLOP of the products of scores or weights with `head` numbers, and other operations."""
    scores, products = rows * heads * case.tokens * case.seen, 2 if which == "forward" else 5
    each = OPERATIONS[which] + HASH * bool(case.rate)
    return {"flops": products * 2 * scores * case.head, "operations": each * scores}


def _call(
    which: str, case: Case, given: dict, results: dict, programs: tuple, interpret: bool
) -> dict:
    """Runs a kernel of which arrays and results have names; a None among `given` is left out."""
    given = {name: x for name, x in given.items() if x is not None}
    kernel = {"forward": _forward, "backward": _backward}[which]
    found = call(
        f"attention_{which}",
        functools.partial(kernel, case=case, names=[*given, *results]),
        list(given.values()),
        list(results.values()),
        programs,
        _cost(which, case, len(given["q"]), programs[1]),
        interpret=interpret,
        warps=case.warps(),
        # With two stages 73 tokens that attend 197 took 36 bytes more than the 99 KiB of Ada.
        stages=2 if which == "forward" else 1,
    )
    return dict(zip(results, found, strict=True))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _attend(arrays: dict, case: Case, interpret: bool):
    """The kernel on one device. arrays: q, kv, shifts, bias, image, seeds, place, or None."""
    q, heads = arrays["q"], arrays["shifts"].shape[1] // case.head
    out = {"out": jax.ShapeDtypeStruct((*q.shape[:2], heads * case.head), q.dtype)}
    return _call("forward", case, arrays, out, (len(q), heads), interpret)["out"]


def _attend_forward(arrays, case, interpret):
    return _attend(arrays, case, interpret), arrays


def _attend_backward(case, interpret, arrays, grad):
    given = {name: x for name, x in arrays.items() if name != "image"} | {"grad": grad}
    images, width = len(arrays["q" if case.packed else "kv"]), arrays["shifts"].shape[1]
    if arrays["image"] is not None:
        # Rows that attend the same image follow each other; image i's are from first[i] on.
        image, numbers = arrays["image"], np.arange(images + 1, dtype=np.int32)
        given["order"] = jnp.argsort(image, stable=True).astype(jnp.int32)
        given["first"] = jnp.sum(image[None] < numbers[:, None], axis=1, dtype=jnp.int32)
    of_array = {"of_q": "q"} if case.packed else {"of_q": "q", "of_kv": "kv"}
    results = {
        name: jax.ShapeDtypeStruct(arrays[x].shape, arrays[x].dtype) for name, x in of_array.items()
    }
    results["of_shifts"] = jax.ShapeDtypeStruct((images, 3, width), jnp.float32)
    programs = images, width // case.head
    found = _call("backward", case, given, results, programs, interpret)
    zero = None if arrays["bias"] is None else jnp.zeros_like(arrays["bias"])
    gradients = {"q": found["of_q"], "kv": found.get("of_kv"), "bias": zero}
    return ({**dict.fromkeys(arrays), **gradients, "shifts": jnp.sum(found["of_shifts"], axis=0)},)


_attend.defvjp(_attend_forward, _attend_backward)


def fits(width: int, heads: int, seen: int, groups: int) -> bool:
    """Whether the kernel computes attention of these sizes on the mesh of JAX's context.

    Args:
      width: of queries, over all heads.
      heads: number of heads.
      seen: tokens attended to.
      groups: of sequences and what they attend; a device must get whole ones.
    """
    sizes = width in (32 * heads, 64 * heads, 128 * heads) and seen <= MOST_SEEN
    return sizes and divides_rows(groups)


def fused_attention(
    given: tuple[Float[AnyArray, "M T W"], Float[AnyArray, "B S W2"] | None],
    shifts: Float32[AnyArray, "3 D"],
    heads: int,
    bias: Float32[AnyArray, "M #T S"] | None = None,
    index: Int[AnyArray, "G rows"] | None = None,
    draw: Draw | None = None,
    interpret: bool = False,
) -> Float[Array, "M T D"]:
    """`plain.attention` on each device of the mesh of JAX's context, of sizes that `fits`.

    Args:
      given: queries float [M,T,D], heads after each other in D, and keys and values beside each
        other, [B,S,2D]; or queries, keys and values of the same tokens beside each other, [M,T,3D],
        and None.
      shifts: float32 [3,D], biases to add to queries, keys and values.
      heads: N.
      bias: float32 [M,1 or T,S], added to the scaled products; no gradient flows to it.
      index: int32 [G,M/G], as of `plain.attention`; None: M / B sequences after each other attend
        the same.
      draw: which weights are dropped; None: none.
      interpret: computes the same on any platform, slowly; for tests.
    """
    q, kv = given
    width, seen = shifts.shape[1], q.shape[1] if kv is None else kv.shape[1]
    rate = draw.rate if draw else 0.0
    case = Case(q.shape[1], seen, width // heads, kv is None, rate, bias is not None)
    if index is None and kv is not None:
        index = np.zeros((len(kv), len(q) // len(kv)), np.int32)

    def on_device(q, kv, shifts, bias, index, seeds, place):
        arrays = {"q": q, "kv": kv, "shifts": shifts, "bias": bias, "image": None}
        arrays |= {"seeds": seeds, "place": place}
        if index is not None:
            start = jnp.arange(len(index), dtype=jnp.int32)[:, None] * (len(kv) // len(index))
            arrays["image"] = (start + index.astype(jnp.int32)).reshape(-1)
        return _attend(arrays, case, interpret)

    places = (ROWS, ROWS, WHOLE, ROWS, ROWS, ROWS, WHOLE)
    inputs = q, kv, shifts, bias, index, *drawn(draw)
    return on_each_device(on_device, places, ROWS)(*inputs)
