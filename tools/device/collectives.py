"""What the devices of a mesh send each other in one run of a program, read off its HLO.

Bytes are those of the whole array that a collective works on, on one device: the result of an
all-gather, the operand of the others. Loops count by their length, and what a condition may skip
counts as if it never did. The CPU's compiler sends bfloat16 as float32, and leaves an all-reduce
where the accelerators' make a reduce-scatter of it, which is half of it.
"""

import collections
import re
from collections.abc import Iterator
from typing import NamedTuple

from tools.device import hlo

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_CHAIN = re.compile(r'chain_id="\d+"')
# Parts of an instruction's name that say how it is computed, not what for.
_HOW = {"while", "body", "cond", "closed_call", "checkpoint", "remat", "jvp", "CADA", "pjit"}


class Collective(NamedTuple):
    """One instruction: kind, shape as text, bytes each time, times a run, what it is for."""

    kind: str
    shape: str
    size: int
    times: int
    purpose: str


def _purpose(op_name: str) -> str:
    """The part of the model an instruction was made for: "layers/attn/query (backward)"."""
    parts = [p for p in op_name.split("/") if re.fullmatch(r"\w+", p) and p not in _HOW]
    return "/".join(parts[-4:]) + (" (backward)" if "transpose(" in op_name else "")


def _kind(opcode: str) -> str | None:
    kind = opcode.removesuffix("-start")
    return kind if kind in KINDS else None


def _read(
    instruction: hlo.Instruction, computation: hlo.Computation, fusion: str
) -> Collective | None:
    kind = _kind(instruction.opcode)
    if kind is None:
        return None
    given = [computation[name].result for name in instruction.operands if name in computation]
    incoming, outgoing = sum(map(hlo.byte_size, given)), hlo.byte_size(instruction.result)
    size, shape = incoming or outgoing, hlo.shape_text(instruction.result)
    if kind == "all-gather":
        # A started one holds what it gathers and what it gives.
        size = outgoing - incoming * instruction.opcode.endswith("-start")
    if kind == "all-reduce" and fusion.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"  # so the TPU's compiler writes one
    return Collective(kind, shape, size, 1, _purpose(instruction.op_name))


def _inside(
    module: hlo.Module, name: str, fusion: str
) -> Iterator[tuple[hlo.Instruction, Collective]]:
    """Collectives of a computation and of what it fuses."""
    computation = module.computations.get(name, {})
    for instruction in computation.values():
        found = _read(instruction, computation, fusion)
        if found:
            yield instruction, found
        elif instruction.opcode == "fusion":
            for called in instruction.called("calls"):
                yield from _inside(module, called, called)


def read_collectives(module: hlo.Module) -> list[Collective]:
    """The collectives of a compiled program, in no order.

    The TPU's compiler runs a collective beside others' work: the fusions between its start and its
    end, in loops too, each hold a copy of it, with the number of its chain. Such copies count once.
    """
    chains: dict[str, list[Collective]] = {}
    for name, times in hlo.runs(module).times.items():
        for place, (instruction, collective) in enumerate(_inside(module, name, "")):
            chain = _CHAIN.search(instruction.rest)
            key = chain[0] if chain else f"none {name} {place}"
            chains.setdefault(key, []).append(collective._replace(times=times))
    return [min(copies, key=lambda c: c.times) for copies in chains.values()]


def total_bytes(found: list[Collective]) -> dict[str, int]:
    """Bytes a run by kind."""
    sizes = collections.Counter()
    for c in found:
        sizes[c.kind] += c.size * c.times
    return dict(sizes)


def table(found: list[Collective], rows: int) -> str:
    """The largest of them, equal ones together, and the sum of every kind."""
    together, counts = collections.Counter(), collections.Counter()
    for c in found:
        shape = c.shape if len(c.shape) < 40 else f"{c.shape[:36]} ..."
        together[c.kind, shape, c.purpose] += c.size * c.times
        counts[c.kind, shape, c.purpose] += c.times
    if not together:
        return "no collectives: the devices send each other nothing"
    lines = [f"{'collective':<18} {'times':>6} {'MB a run':>10}  shape, and what for"]
    for key, size in together.most_common(rows):
        kind, shape, purpose = key
        lines.append(f"{kind:<18} {counts[key]:>6} {size / 1e6:>10.2f}  {shape}  {purpose}")
    left = len(together) - rows
    if left > 0:
        rest = sum(size for _, size in together.most_common()[rows:])
        lines.append(f"{'... and others':<18} {left:>6} {rest / 1e6:>10.2f}")
    for kind in KINDS:
        of_kind = [c for c in found if c.kind == kind]
        if of_kind:
            size = sum(c.size * c.times for c in of_kind)
            times = sum(c.times for c in of_kind)
            largest = max(of_kind, key=lambda c: c.size)
            lines.append(
                f"all of {kind:<18} {times:>6} times {size / 1e6:>10.2f} MB, "
                f"the largest {largest.size / 1e6:.2f} MB"
            )
    return "\n".join(lines)
