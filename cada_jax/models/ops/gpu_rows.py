"""Kernels of an NVIDIA GPU that pass once over rows: residual with LayerNorm, and GELU.

What lies between two products of a layer is bound by the memory's bandwidth. Written as XLA's
operations it was read and written two to three times as often as it need be, and the gradients of
biases and scales, which are sums over all rows, took passes of their own. Here a kernel reads its
arrays once, and each program leaves its share of those sums; XLA adds the shares up.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from cada_jax.common.shapes import AnyArray, Array, Float, Float32
from cada_jax.models.ops import random_bits
from cada_jax.models.ops.gpu_kernels import call, drawn, power_of_two, read, run, size_of, write
from cada_jax.models.ops.on_devices import ROWS, WHOLE, on_each_device

PROGRAM_ROWS = 64  # rows of one program: each leaves its share of the sums
AT_ONCE = 4  # of them, in registers
GELU_COLUMNS = 1024  # of a program
# Operations on single numbers for each of the result's, counted in the kernels.
OPERATIONS = {"norm_forward": 30, "norm_backward": 50, "gelu_forward": 25, "gelu_backward": 35}
BIAS, SCALE, SHIFT = range(3)  # rows of the vectors of a norm


class Case(NamedTuple):
    """What a kernel of `residual_norm` is made for.

    rows, width: of the arrays; tokens: of a sequence; rate: of dropout; gated: the branch passes a
    gate; keep_sum: the sum is a result too; epsilon: added to the variance.
    """

    rows: int
    width: int
    tokens: int
    rate: float
    gated: bool
    keep_sum: bool
    epsilon: float

    def places(self, start):
        """(where `AT_ONCE` rows from `start` lie, which of their numbers are real)."""
        column = jnp.arange(power_of_two(self.width))
        inside = (start + jnp.arange(AT_ONCE) < self.rows)[:, None] & (column < self.width)[None]
        return (run(start, AT_ONCE), pl.ds(0, power_of_two(self.width))), inside

    def mean(self, x):
        """Of each row, [rows,1]; numbers beyond the width are zero."""
        return jnp.sum(x, axis=1, keepdims=True) * (1 / self.width)


def _vector(ref, row: int, width: int):
    columns = power_of_two(width)
    inside = (jnp.arange(columns) < width)[None]
    return read(ref, (run(row, 1), pl.ds(0, columns)), inside, jnp.float32).reshape(-1)


def _kept(case: Case, refs: dict[str, Any], start):
    """Which numbers of a branch are not dropped, as `plain.dropout`; bool [rows,width]."""
    row = jnp.minimum(start + jnp.arange(AT_ONCE, dtype=jnp.int32), case.rows - 1)
    tokens = jnp.int32(case.tokens)
    sequence, token = jax.lax.div(row, tokens), jax.lax.rem(row, tokens)
    words = (read(refs["seeds"], (sequence, 0 * sequence + i), None) for i in (0, 1))
    first, second = (random_bits.fold(word, refs["place"][0]) for word in words)
    places = (token * case.width)[:, None] + jnp.arange(power_of_two(case.width))[None]
    return random_bits.kept(random_bits.hashed(places, first[:, None], second[:, None]), case.rate)


class _Sum(NamedTuple):
    """A block's branch after dropout, its gate [rows,1] or None, and the sum with the residual."""

    branch: Any
    gate: Any
    total: Any


def _sum(case: Case, vectors, gate, x, y, kept) -> _Sum:
    branch = y + vectors[BIAS][None]
    if kept is not None:
        branch = jnp.where(kept, branch * random_bits.keep_scale(case.rate), 0.0)
    if gate is None:
        return _Sum(branch, None, x + branch)
    of_x, of_branch, bias = gate
    logit = jnp.sum(x * of_x[None] + branch * of_branch[None], axis=1, keepdims=True) + bias
    opened = 2.0 / (1.0 + jnp.exp(-logit))
    return _Sum(branch, opened, x + opened * branch)


def _normal(case: Case, total, inside):
    """(total - mean) / deviation of each row, and 1 / deviation [rows,1]."""
    centred = jnp.where(inside, total - case.mean(total), 0.0)
    inverse = jax.lax.rsqrt(case.mean(centred * centred) + case.epsilon)
    return centred * inverse, inverse


def _parameters(case: Case, refs):
    """(bias, scale and shift as vectors, the gate's two vectors and its bias or None)."""
    vectors = [_vector(refs["vectors"], i, case.width) for i in range(3)]
    if not case.gated:
        return vectors, None
    gate = [_vector(refs["gate"], i, case.width) for i in range(2)]
    return vectors, (*gate, refs["gate"][2, 0])


def _norm_forward(*refs, case: Case, names: Sequence[str]):
    refs = dict(zip(names, refs, strict=True))
    vectors, gate = _parameters(case, refs)
    first = pl.program_id(0) * PROGRAM_ROWS

    def some_rows(i, _):
        start = first + i * AT_ONCE
        places, inside = case.places(start)
        x, y = (read(refs[name], places, inside, jnp.float32) for name in "xy")
        kept = _kept(case, refs, start) if case.rate else None
        total = _sum(case, vectors, gate, x, y, kept).total
        if case.keep_sum:
            write(refs["total"], places, total, inside)
        normal, _ = _normal(case, total, inside)
        write(refs["out"], places, normal * vectors[SCALE][None] + vectors[SHIFT][None], inside)
        return 0

    jax.lax.fori_loop(0, PROGRAM_ROWS // AT_ONCE, some_rows, 0)


def _through_gate(gate, x, summed: _Sum, of_total):
    """Gradients of residual and branch, and the rows' shares of the gate's own gradient."""
    of_x, of_branch, _ = gate
    along = jnp.sum(of_total * summed.branch, axis=1, keepdims=True)
    of_logit = along * summed.gate * (1 - summed.gate / 2)
    shares = [jnp.sum(of_logit * part, axis=0) for part in (x, summed.branch)]
    of_bias = jnp.sum(of_logit + jnp.zeros_like(x), axis=0)
    residual = of_total + of_logit * of_x[None]
    return residual, summed.gate * of_total + of_logit * of_branch[None], [*shares, of_bias]


def _norm_backward(*refs, case: Case, names: Sequence[str]):
    refs = dict(zip(names, refs, strict=True))
    vectors, gate = _parameters(case, refs)
    first = pl.program_id(0) * PROGRAM_ROWS

    def some_rows(i, sums):
        start = first + i * AT_ONCE
        places, inside = case.places(start)
        given = {n: read(refs[n], places, inside, jnp.float32) for n in refs if n in _ROWS}
        kept = _kept(case, refs, start) if case.rate else None
        if case.keep_sum:
            summed = _Sum(None, None, given["total"])
        else:
            summed = _sum(case, vectors, gate, given["x"], given["y"], kept)
        normal, inverse = _normal(case, summed.total, inside)
        scaled = given["grad"] * vectors[SCALE][None]
        common = case.mean(scaled) + normal * case.mean(scaled * normal)
        of_total = jnp.where(inside, inverse * (scaled - common), 0.0)
        if case.keep_sum:
            of_total = of_total + given["of_total"]
        of_x, of_y, of_gate = of_total, of_total, []
        if gate is not None:
            of_x, of_y, of_gate = _through_gate(gate, given["x"], summed, of_total)
        if kept is not None:
            of_y = jnp.where(kept, of_y * random_bits.keep_scale(case.rate), 0.0)
        write(refs["of_x"], places, of_x, inside)
        if "of_y" in refs:
            write(refs["of_y"], places, of_y, inside)
        grad = given["grad"]
        new = [jnp.sum(x, axis=0) for x in (of_y, grad * normal, grad)]
        return tuple(a + b for a, b in zip(sums, [*new, *of_gate], strict=True))

    width = power_of_two(case.width)
    zeros = (jnp.zeros((width,), jnp.float32),) * (6 if case.gated else 3)
    sums = jax.lax.fori_loop(0, PROGRAM_ROWS // AT_ONCE, some_rows, zeros)
    for i, x in enumerate(sums):
        place = pl.program_id(0), run(i, 1), pl.ds(0, width)
        write(refs["sums"], place, x[None], (jnp.arange(width) < case.width)[None])


_ROWS = ("grad", "total", "of_total", "x", "y")  # what the backward pass reads by rows
_KERNELS = {"norm_forward": _norm_forward, "norm_backward": _norm_backward}


def _call_norm(name: str, case: Case, given: dict, results: dict, interpret: bool) -> dict:
    given = {key: x for key, x in given.items() if x is not None}
    found = call(
        name,
        functools.partial(_KERNELS[name], case=case, names=[*given, *results]),
        list(given.values()),
        list(results.values()),
        (pl.cdiv(case.rows, PROGRAM_ROWS),),
        {"flops": 0, "operations": OPERATIONS[name] * case.rows * case.width},
        interpret=interpret,
    )
    return dict(zip(results, found, strict=True))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _residual_norm(arrays: dict, case: Case, interpret: bool):
    """(normed, sum) or normed, [R,D]; arrays: x, y [R,D], vectors, gate, seeds, place, or None."""
    return _residual_norm_forward(arrays, case, interpret)[0]


def _residual_norm_forward(arrays, case, interpret):
    x = arrays["x"]
    like = jax.ShapeDtypeStruct(x.shape, x.dtype)
    results = {"out": like} | ({"total": like} if case.keep_sum else {})
    found = _call_norm("norm_forward", case, arrays, results, interpret)
    if case.keep_sum:
        arrays = {**arrays, "x": None, "y": None, "total": found["total"]}
        return (found["out"], found["total"]), arrays
    return found["out"], arrays


def _residual_norm_backward(case, interpret, arrays, grad):
    grads = {"grad": grad[0], "of_total": grad[1]} if case.keep_sum else {"grad": grad}
    like = jax.ShapeDtypeStruct(grads["grad"].shape, grads["grad"].dtype)
    apart = bool(case.rate) or case.gated  # else the branch's gradient is the residual's
    programs, sums = pl.cdiv(case.rows, PROGRAM_ROWS), 6 if case.gated else 3
    results = {"of_x": like} | ({"of_y": like} if apart else {})
    results["sums"] = jax.ShapeDtypeStruct((programs, sums, case.width), jnp.float32)
    found = _call_norm("norm_backward", case, arrays | grads, results, interpret)
    total = jnp.sum(found["sums"], axis=0)
    gradient = {"x": found["of_x"], "y": found.get("of_y", found["of_x"]), "vectors": total[:3]}
    if case.gated:
        bias = jnp.zeros((1, case.width)).at[0, 0].set(total[5, 0])
        gradient["gate"] = jnp.concatenate([total[3:5], bias])
    return ({"gate": None, "seeds": None, "place": None} | gradient,)


_residual_norm.defvjp(_residual_norm_forward, _residual_norm_backward)


def residual_norm(
    rows: tuple[Float[AnyArray, "M T D"], Float[AnyArray, "M T D"]],
    vectors: Float32[AnyArray, "3 D"],
    epsilon: float,
    gate: Float32[AnyArray, "3 D"] | None = None,
    draw: random_bits.Draw | None = None,
    keep_sum: bool = False,
    interpret: bool = False,
) -> Any:
    """LayerNorm(x + dropout(y + bias)), or LayerNorm(x + gate(x, b) b) with b the dropped branch.

    Args:
      rows: x, the residual, and y, the branch without the bias of its last product.
      vectors: float32 [3,D]: that bias, and the norm's scale and shift.
      epsilon: added to the variance.
      gate: float32 [3,D]: weights of x and of the branch in the logit of `bert.TokenGate`, and
        its bias in [2,0].
      draw: what is dropped; None: nothing.
      keep_sum: the sum is wanted too, which neither gate nor dropout goes with.
      interpret: computes the same on any platform, slowly; for tests.

    Returns:
      float [M,T,D] of x's type; with `keep_sum`, (that, x + y + bias).
    """
    rate = draw.rate if draw else 0.0

    def on_device(x, y, vectors, gate, seeds, place):
        shape, number = x.shape, x.shape[0] * x.shape[1]
        case = Case(number, shape[2], shape[1], rate, gate is not None, keep_sum, epsilon)
        arrays = {"x": x.reshape(number, -1), "y": y.reshape(number, -1), "vectors": vectors}
        arrays |= {"gate": gate, "seeds": seeds, "place": place}
        found = _residual_norm(arrays, case, interpret)
        return jax.tree.map(lambda out: out.reshape(shape), found)

    given, returned = (ROWS, ROWS, WHOLE, WHOLE, ROWS, WHOLE), (ROWS, ROWS) if keep_sum else ROWS
    return on_each_device(on_device, given, returned)(*rows, vectors, gate, *drawn(draw))


def _cdf(x):
    """The normal distribution's cumulative and its density.

    Abramowitz and Stegun 7.1.26, within 1.5e-7: both need the one exponential.
    """
    density = jnp.exp(-0.5 * x * x)
    t = 1.0 / (1.0 + 0.3275911 * math.sqrt(0.5) * jnp.abs(x))
    series = 0.0
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + factor) * t
    tail = 0.5 * series * density
    return jnp.where(x >= 0, 1.0 - tail, tail), density * (1 / math.sqrt(2 * math.pi))


def _gelu_places(refs, start, column):
    """(where some rows lie, which of them are real, what goes into the GELU there)."""
    rows, width = refs["h"].shape
    size = min(GELU_COLUMNS, power_of_two(width))
    columns = (column + jnp.arange(size) < width)[None]
    inside = (start + jnp.arange(AT_ONCE) < rows)[:, None] & columns
    places = run(start, AT_ONCE), pl.ds(column, size)
    bias = read(refs["bias"], (pl.ds(0, 1), pl.ds(column, size)), columns, jnp.float32)
    return places, inside, read(refs["h"], places, inside, jnp.float32) + bias


def _gelu_forward(*refs, names: Sequence[str]):
    refs = dict(zip(names, refs, strict=True))
    start, column = pl.program_id(0) * AT_ONCE, pl.program_id(1) * GELU_COLUMNS
    places, inside, h = _gelu_places(refs, start, column)
    write(refs["out"], places, h * _cdf(h)[0], inside)


def _gelu_backward(*refs, names: Sequence[str]):
    refs = dict(zip(names, refs, strict=True))
    first, column = pl.program_id(0) * PROGRAM_ROWS, pl.program_id(1) * GELU_COLUMNS

    def some_rows(i, total):
        places, inside, h = _gelu_places(refs, first + i * AT_ONCE, column)
        cdf, density = _cdf(h)
        of_h = read(refs["grad"], places, inside, jnp.float32) * (cdf + h * density)
        write(refs["of_h"], places, of_h, inside)
        return total + jnp.sum(of_h, axis=0)

    width = refs["h"].shape[1]
    size = min(GELU_COLUMNS, power_of_two(width))
    zero = jnp.zeros((size,), jnp.float32)
    total = jax.lax.fori_loop(0, PROGRAM_ROWS // AT_ONCE, some_rows, zero)
    inside = (column + jnp.arange(size) < width)[None]
    write(refs["sums"], (run(pl.program_id(0), 1), pl.ds(column, size)), total[None], inside)


def _call_gelu(name: str, given: dict, results: dict, rows: int, interpret: bool) -> list:
    h = given["h"]
    kernel = {"gelu_forward": _gelu_forward, "gelu_backward": _gelu_backward}[name]
    return call(
        name,
        functools.partial(kernel, names=[*given, *results]),
        list(given.values()),
        list(results.values()),
        (pl.cdiv(len(h), rows), pl.cdiv(h.shape[1], GELU_COLUMNS)),
        {"flops": 0, "operations": OPERATIONS[name] * size_of(h)},
        interpret=interpret,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _gelu(h, bias, interpret):
    """GELU(h + bias), h [R,F], bias float32 [1,F]."""
    out = {"out": jax.ShapeDtypeStruct(h.shape, h.dtype)}
    return _call_gelu("gelu_forward", {"h": h, "bias": bias}, out, AT_ONCE, interpret)[0]


def _gelu_bwd(interpret, kept, grad):
    h, bias = kept
    shares = jax.ShapeDtypeStruct((pl.cdiv(len(h), PROGRAM_ROWS), h.shape[1]), jnp.float32)
    results = {"of_h": jax.ShapeDtypeStruct(h.shape, h.dtype), "sums": shares}
    given = {"h": h, "bias": bias, "grad": grad}
    of_h, sums = _call_gelu("gelu_backward", given, results, PROGRAM_ROWS, interpret)
    return of_h, jnp.sum(sums, axis=0, keepdims=True)


_gelu.defvjp(lambda h, bias, interpret: (_gelu(h, bias, interpret), (h, bias)), _gelu_bwd)


def biased_gelu(
    h: Float[AnyArray, "*rows F"], bias: Float32[AnyArray, "F"], interpret: bool = False
) -> Float[Array, "*rows F"]:
    """The exact GELU of h + bias.

    Args:
      h: float [...,F], a product without its bias.
      bias: float32 [F].
      interpret: computes the same on any platform, slowly; for tests.
    """

    def on_device(h, bias):
        return _gelu(h.reshape(-1, h.shape[-1]), bias, interpret).reshape(h.shape)

    return on_each_device(on_device, (ROWS, WHOLE), ROWS)(h, bias[None])
