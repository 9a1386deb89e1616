"""What the devices of a mesh send each other in a training step, read off the compiled program.

    python -m tools.collectives --config=rstp --mesh=8x1x1
    python -m tools.collectives --config=rstp:large --mesh=2x4x1 --set model.dtype=bfloat16

Devices are simulated on the CPU and the step is compiled for them, not run. Bytes are those of the
whole array a collective works on, on one device (the result of an all-gather, the operand of a
reduce-scatter), times how often it runs: loops over layers and chunks are counted by their length,
and what a condition may skip as if it never did. The CPU's compiler sends bfloat16 as float32, and
leaves an all-reduce where the accelerators' make a reduce-scatter of it, which is half of it.
"""

import collections
import math
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from cada_jax.common.command_line import run_command
from tools import compiled_step
from tools.arguments import Parser, integer

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
SIZES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2}
SIZES |= {"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_CALLED = re.compile(r"(?:body|condition|to_apply|calls)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(?:-start)?\(")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
_GROUPS = re.compile(r"replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]*)\})")
_NAME = re.compile(r'op_name="([^"]*)"')
# Parts of an instruction's name that say how it is computed, not what for.
_HOW = {"while", "body", "cond", "closed_call", "checkpoint", "remat", "jvp", "CADA", "pjit"}


class Collective(NamedTuple):
    """One instruction: kind, shape as text, bytes each time, times a step, what it is for."""

    kind: str
    shape: str
    size: int
    times: int
    purpose: str


def _bytes(text: str) -> int:
    return sum(
        SIZES.get(dtype, 0) * math.prod(int(n) for n in dims.split(",") if n)
        for dtype, dims in _SHAPE.findall(text)
    )


def _purpose(line: str) -> str:
    """The part of the model an instruction was made for: "layers/attn/query (backward)"."""
    found = _NAME.search(line)
    if not found:
        return ""
    parts = [p for p in found[1].split("/") if re.fullmatch(r"\w+", p) and p not in _HOW]
    return "/".join(parts[-4:]) + (" (backward)" if "transpose(" in found[1] else "")


def _parse(line: str) -> tuple[str, str, int, str] | None:
    match = _COLLECTIVE.search(line)
    if not match:
        return None
    result, kind = match.groups()
    shape = ", ".join(f"{dtype}[{dims}]" for dtype, dims in _SHAPE.findall(result))
    size = _bytes(result)
    if kind == "reduce-scatter":  # what goes in is larger by the number of devices
        groups = _GROUPS.search(line)
        if groups is None:
            raise ValueError(f"a reduce-scatter without replica_groups: {line.strip()[:200]}")
        size *= int(groups[1]) if groups[1] else len(groups[2].split(","))
    return kind, shape, size, _purpose(line)


def read_collectives(hlo: str) -> list[Collective]:
    """The collectives of a compiled program, given as text, in no order.

    Raises:
      ValueError: the text has no entry computation, so it is not a compiled program; or a
        reduce-scatter does not say over which devices it goes.
    """
    found, calls = collections.defaultdict(list), collections.defaultdict(list)
    computation = entry = None
    for line in hlo.splitlines():
        start = _COMPUTATION.match(line)
        if start:
            computation = start[2]
            entry = computation if start[1] else entry
            continue
        trips = _TRIPS.search(line)
        times = int(trips[1]) if trips and " while(" in line else 1
        names = _CALLED.findall(line)
        for branches in _BRANCHES.findall(line):
            names += re.findall(r"[\w.\-]+", branches)
        calls[computation] += [(name, times) for name in names]
        collective = _parse(line)
        if collective:
            found[computation].append(collective)
    if entry is None:
        raise ValueError("no ENTRY computation: expected the text of a compiled HLO module")
    runs = collections.Counter()

    def count(name, times):
        runs[name] += times
        for called, trips in calls[name]:
            count(called, times * trips)

    count(entry, 1)
    return [
        Collective(kind, shape, size, runs[name], purpose)
        for name, instructions in found.items()
        for kind, shape, size, purpose in instructions
    ]


def table(collectives: list[Collective], rows: int) -> str:
    """The largest of them, equal ones together, and the sum of every kind."""
    together, counts = collections.Counter(), collections.Counter()
    for c in collectives:
        shape = c.shape if len(c.shape) < 40 else f"{c.shape[:36]} ..."
        together[c.kind, shape, c.purpose] += c.size * c.times
        counts[c.kind, shape, c.purpose] += c.times
    lines = [f"{'kind':<18} {'times':>6} {'MB a step':>10}  shape, and what for"]
    for key, size in together.most_common(rows):
        kind, shape, purpose = key
        lines.append(f"{kind:<18} {counts[key]:>6} {size / 1e6:>10.2f}  {shape}  {purpose}")
    left = len(together) - rows
    if left > 0:
        rest = sum(size for _, size in together.most_common()[rows:])
        lines.append(f"{'... and others':<18} {left:>6} {rest / 1e6:>10.2f}")
    for kind in KINDS:
        of_kind = [c for c in collectives if c.kind == kind]
        if of_kind:
            size = sum(c.size * c.times for c in of_kind)
            times = sum(c.times for c in of_kind)
            largest = max(of_kind, key=lambda c: c.size)
            lines.append(
                f"all of {kind:<18} {times:>6} times {size / 1e6:>10.2f} MB, "
                f"the largest {largest.size / 1e6:.2f} MB"
            )
    return "\n".join(lines)


def run(argv: Sequence[str] | None) -> int:
    """Compiles the step that the flags describe and prints the table; returns the exit code."""
    parser = Parser("tools.collectives", __doc__)
    compiled_step.add_flags(parser)
    parser.add_argument("--rows", type=integer(1), default=20, help="lines of the table")
    flags = parser.flags(argv)
    config = compiled_step.read_config(flags)
    compiled_step.simulate(flags.mesh)
    step = compiled_step.compile_step(compiled_step.describe_step(config))
    print(f"{compiled_step.title(flags)}, compiled in {step.seconds:.0f} s")
    print(table(read_collectives(step.compiled.as_text()), flags.rows))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
