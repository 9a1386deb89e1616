"""What the devices of a mesh send each other in one run of a program, read off its HLO.

Bytes are those of the whole array that a collective works on, on one device: the result of an
all-gather, the operand of the others. Loops count by their length, and what a condition may skip
counts as if it never did. The CPU's compiler sends bfloat16 as float32, and leaves an all-reduce
where the accelerators' make a reduce-scatter of it, which is half of it.
"""

import collections
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tools.device import hlo
from tools.device.chips import Chip

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_CHAIN = re.compile(r'chain_id="\d+"')
# Parts of an instruction's name that say how it is computed, not what for.
_HOW = {"while", "body", "cond", "closed_call", "checkpoint", "remat", "jvp", "CADA", "pjit"}
_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{\{([\d,]*)\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=(?:@?\w*)mesh\[([^\]]*)\] ?\{([^}]*)\}")


class Collective(NamedTuple):
    """One instruction.

    kind: of `KINDS`; shape: as text; size: bytes each time; times: a run; purpose: what it is for;
    group: numbers of the devices that work on it together, () for all.
    """

    kind: str
    shape: str
    size: int
    times: int
    purpose: str
    group: tuple[int, ...] = ()

    def seconds(self, chip: Chip, devices: int, together: int) -> float:
        """How long one takes by its bytes over the links' rate, nothing else being sent.

        Within a slice or machine every device sends its share around; between them each sends what
        its own are to hold, a sum or a gather being done in two steps. Latency is left out.

        Args:
          chip: whose links they are.
          devices: of the mesh.
          together: devices of a slice or machine.
        """
        members = self.group or tuple(range(devices))
        groups = collections.Counter(member // together for member in members)
        near, far = max(groups.values()), len(groups)
        inside, outside = (near - 1) / near, (far - 1) / (far * near)
        if self.kind == "all-to-all":
            inside, outside = inside / far, (far - 1) / far
        if self.kind == "collective-permute":
            inside, outside = float(far == 1), float(far > 1)
        steps = 2 if self.kind == "all-reduce" else 1
        return steps * self.size * (inside / chip.link + outside / chip.network)


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]


def group_of(rest: str) -> tuple[int, ...]:
    """The first group of devices that an instruction's text names, () where it names none."""
    if listed := _LISTED.search(rest):
        return tuple(_numbers(listed[1]))
    if iota := _IOTA.search(rest):
        groups, sides = _numbers(iota[1]), _numbers(iota[2])
        order = _numbers(iota[3]) if iota[3] else range(len(sides))
        numbers = np.arange(math.prod(sides)).reshape(sides).transpose(order)
        return tuple(numbers.reshape(groups)[0].tolist())
    if mesh := _MESH.search(rest):
        sides = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        kept = re.findall(r"'(\w+)'", mesh[2])
        numbers = np.arange(math.prod(sides.values())).reshape(list(sides.values()))
        first = numbers[tuple(slice(None) if name in kept else 0 for name in sides)]
        return tuple(np.ravel(first).tolist())
    return ()


def _purpose(op_name: str) -> str:
    """The part of the model an instruction was made for: "layers/attn/query (backward)"."""
    parts = [p for p in op_name.split("/") if re.fullmatch(r"\w+", p) and p not in _HOW]
    return "/".join(parts[-4:]) + (" (backward)" if "transpose(" in op_name else "")


def read(
    instruction: hlo.Instruction, computation: hlo.Computation, fusion: str = ""
) -> Collective | None:
    """The collective that an instruction is or starts, None if it is none.

    Args:
      instruction: to read.
      computation: that it stands in.
      fusion: name of the fusion that this is part of.
    """
    kind = instruction.opcode.removesuffix("-start")
    if kind not in KINDS:
        return None
    given = [computation[name].result for name in instruction.operands if name in computation]
    incoming, outgoing = sum(map(hlo.byte_size, given)), hlo.byte_size(instruction.result)
    size, shape = incoming or outgoing, hlo.shape_text(instruction.result)
    if kind == "all-gather":
        # A started one holds what it gathers and what it gives.
        size = outgoing - incoming * instruction.opcode.endswith("-start")
    if kind == "all-reduce" and fusion.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"  # so the TPU's compiler writes one
    purpose, group = _purpose(instruction.op_name), group_of(instruction.rest)
    return Collective(kind, shape, size, 1, purpose, group)


def inside(module: hlo.Module, name: str, fusion: str = "") -> Iterator[tuple[str, Collective]]:
    """(chain, collective) of a computation and of what it fuses; chain "" for one without.

    The TPU's compiler runs a collective beside others' work: the fusions between its start and its
    end, in loops too, each hold a copy of it, with the number of its chain.
    """
    computation = module.computations.get(name, {})
    for instruction in computation.values():
        found = read(instruction, computation, fusion)
        if found:
            chain = _CHAIN.search(instruction.rest)
            yield chain[0] if chain else "", found
        elif instruction.opcode == "fusion":
            for called in instruction.called("calls"):
                yield from inside(module, called, called)


def read_collectives(module: hlo.Module) -> list[Collective]:
    """The collectives of a compiled program, in no order; copies of one chain count once."""
    chains: dict[str, list[Collective]] = {}
    for name, times in hlo.runs(module).times.items():
        for place, (chain, collective) in enumerate(inside(module, name)):
            key = chain or f"none {name} {place}"
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
    for kind, size in total_bytes(found).items():
        times = sum(c.times for c in found if c.kind == kind)
        lines.append(f"all of {kind:<18} {times:>6} times {size / 1e6:>10.2f} MB")
    return "\n".join(lines)
