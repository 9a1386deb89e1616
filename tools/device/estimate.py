"""The time a program takes by its own compiler's estimate, by part of the model and by kind.

What every instruction takes (`costs`) is added up over those that are executed, as often as they
are; what is fused is part of its fusion. Beside that stand the kernels that a GPU starts, and the
waiting for collectives: each takes its bytes over the links' rate, one after the other, and hides
behind what the schedule puts between its start and its end.

What the sum leaves out: the host, latencies of collectives, and on a TPU copies between memory and
core that run beside computation. `Estimate.prefetched` has the bytes of those.
"""

import collections
import re
from collections.abc import Iterator
from typing import NamedTuple

from tools.device import collectives, costs, hlo, kinds
from tools.device.chips import LAUNCH, Chip
from tools.device.costs import BYTES, COMPILER, KERNEL, Cost

KERNELS = "Pallas kernels (roofline)"
UNESTIMATED = "without an estimate (roofline)"
LAUNCHES = f"starting kernels, {1e6 * LAUNCH:.1f} us each"
WAITING = "waiting for collectives"


class Called(NamedTuple):
    """What has no estimate of the compiler: name, times a run, seconds in all, what bounds it."""

    name: str
    times: int
    seconds: float
    bound: str


class Estimate(NamedTuple):
    """One run of a program on one device.

    Attributes:
      seconds: in all, everything below included.
      kinds: seconds by kind of work.
      parts: seconds by part of the model, (forward, backward), without launches and waiting.
      kernels: Pallas kernels.
      unestimated: whatever else the compiler gives no figure for.
      launches: kernels that a GPU starts; 0 on a TPU.
      sending: seconds of all collectives, hidden or not.
      largest: ((kind, part, shape, path), seconds) of what takes most.
      prefetched: bytes copied between memory and core of a TPU beside computation.
      unknown: loops of unknown length, counted once.
    """

    seconds: float
    kinds: dict[str, float]
    parts: dict[str, tuple[float, float]]
    kernels: list[Called]
    unestimated: list[Called]
    launches: int
    sending: float
    largest: list[tuple[tuple[str, str, str, str], float]]
    prefetched: int
    unknown: list[str]


class Links(NamedTuple):
    """Devices of the mesh, and of a slice or machine; see `collectives.Collective.seconds`."""

    devices: int = 1
    together: int = 1


ALONE = Links()


def _surroundings(module: hlo.Module) -> dict[str, str]:
    """Of each loop's or condition's computation, the path of what it belongs to."""
    paths = {}
    for computation in module.computations.values():
        for instruction in computation.values():
            if instruction.opcode in ("while", "conditional", "call"):
                called = instruction.called("body", "condition", "to_apply")
                paths |= dict.fromkeys([*called, *instruction.branches()], instruction.op_name)
    return paths


class _Timed(NamedTuple):
    """One instruction: what it is for, times a run, what it takes each time."""

    kind: str
    part: str
    shape: str
    path: str
    times: int
    cost: Cost


def _timed(module: hlo.Module, runs: hlo.Runs, chip: Chip, vocabulary: int) -> Iterator[_Timed]:
    """Every instruction that takes time; arguments as of `estimate`."""
    around = _surroundings(module)
    rows = {KERNEL: KERNELS, BYTES: UNESTIMATED}
    for name, times in runs.times.items():
        computation, outer = module.computations.get(name, {}), around.get(name, "")
        for instruction in computation.values():
            if collectives.read(instruction, computation):
                continue
            cost = costs.cost(instruction, computation, chip)
            if cost is None:
                continue
            path = kinds.path_of(module, instruction) or outer
            part = kinds.part_of(path, outer, instruction.result, vocabulary)
            kind = rows.get(cost.by) or kinds.kind_of(module, instruction, path, part)
            yield _Timed(kind, part, hlo.shape_text(instruction.result), path, times, cost)


def _waiting(module: hlo.Module, name: str, chip: Chip, links: Links) -> tuple[float, float]:
    """Seconds of (waiting for, sending) the collectives of one run of a computation.

    The instructions stand in the order of their schedule. A collective that is not started before
    it is waited for stops everything; of one that is, only what is left at its end does.
    """
    clock = free = waited = sending = 0.0
    ends: dict[str, float] = {}
    computation = module.computations.get(name, {})
    for instruction in computation.values():
        started = _starts(module, instruction, computation)
        for key, collective in started:
            seconds = collective.seconds(chip, links.devices, links.together)
            sending, free = sending + seconds, max(free, clock) + seconds
            ends[key] = free
        for key in _ends(module, instruction):
            wait = max(0.0, ends.pop(key, 0.0) - clock)
            waited, clock = waited + wait, clock + wait
        cost = None if started else costs.cost(instruction, computation, chip)
        clock += cost.seconds if cost else 0.0
    return waited, sending


def _starts(module: hlo.Module, instruction: hlo.Instruction, computation: hlo.Computation):
    """[(key, collective)] that an instruction starts, or does."""
    found = collectives.read(instruction, computation)
    if found:
        return [(instruction.name, found)]
    held = [
        (chain, collective)
        for called in instruction.called("calls")
        for chain, collective in collectives.inside(module, called, called)
    ]
    targets = _custom_calls(module, instruction)
    if instruction.opcode == "async-start":
        return [(instruction.name, collective) for _, collective in held]
    if "AsyncCollectiveDone" in targets or (held and held[0][0] and not targets):
        return []  # a copy beside others' work, or the end
    return [(chain or instruction.name, collective) for chain, collective in held]


def _ends(module: hlo.Module, instruction: hlo.Instruction) -> list[str]:
    """Keys of the collectives that an instruction waits for."""
    opcode = instruction.opcode
    if opcode.endswith("-done"):
        return instruction.operands[:1]
    if opcode in collectives.KINDS:
        return [instruction.name]
    targets = _custom_calls(module, instruction)
    chains = [
        chain
        for called in instruction.called("calls")
        for chain, _ in collectives.inside(module, called, called)
    ]
    if "AsyncCollectiveDone" in targets:
        return chains
    return [instruction.name] if chains and not any(chains) and opcode == "fusion" else []


def _custom_calls(module: hlo.Module, instruction: hlo.Instruction) -> set[str]:
    return {costs.call_target(inner) for inner in module.fused(instruction)} - {""}


def _prefetched(instruction: hlo.Instruction) -> int:
    """Bytes that an asynchronous copy or slice moves."""
    if instruction.opcode not in ("copy-start", "slice-start"):
        return 0
    # The result is (what is copied, the copy, a flag); of a slice the copy is the smaller.
    shapes = re.findall(r"[a-z]\w*\[[\d,]*\]", instruction.result)
    return min(map(hlo.byte_size, shapes[:2])) if len(shapes) > 1 else 0


def _called(timed: list[_Timed], by: str) -> list[Called]:
    """What has no estimate of the compiler, by name, the longest first."""
    found: dict[str, Called] = {}
    for t in timed:
        if t.cost.by == by:
            before = found.get(t.cost.name, Called(t.cost.name, 0, 0.0, ""))
            seconds = before.seconds + t.times * t.cost.seconds
            found[t.cost.name] = Called(t.cost.name, before.times + t.times, seconds, t.cost.bound)
    return sorted(found.values(), key=lambda called: -called.seconds)


def estimate(module: hlo.Module, chip: Chip, vocabulary: int, links: Links = ALONE) -> Estimate:
    """Adds up what a program's instructions take.

    Args:
      module: compiled for the chip; for a GPU, with its compiler asked to estimate.
      chip: a TPU or a GPU.
      vocabulary: words of the model, by whose number its tables are known.
      links: how many devices there are.
    """
    runs = hlo.runs(module)
    timed = list(_timed(module, runs, chip, vocabulary))
    names = (*kinds.KINDS, KERNELS, UNESTIMATED, LAUNCHES, WAITING)
    by_kind: dict[str, float] = dict.fromkeys(names, 0.0)
    by_part = {part: [0.0, 0.0] for part in kinds.PARTS}
    alike: dict[tuple[str, str, str, str], float] = collections.defaultdict(float)
    for t in timed:
        seconds = t.times * t.cost.seconds
        by_kind[t.kind] += seconds
        by_part[t.part][kinds.is_backward(t.path)] += seconds
        alike[t.kind, t.part, t.shape, t.path] += seconds
    launches = sum(t.times for t in timed) if chip.gpu else 0
    by_kind[LAUNCHES] = launches * LAUNCH
    sending = copied = 0.0
    for name, times in runs.times.items():
        waited, sent = _waiting(module, name, chip, links)
        by_kind[WAITING] += times * waited
        sending += times * sent
        copied += times * sum(map(_prefetched, module.computations.get(name, {}).values()))
    return Estimate(
        seconds=sum(by_kind.values()),
        kinds={kind: seconds for kind, seconds in by_kind.items() if seconds},
        parts={part: (both[0], both[1]) for part, both in by_part.items() if any(both)},
        kernels=_called(timed, KERNEL),
        unestimated=_called(timed, BYTES),
        launches=launches,
        sending=sending,
        largest=sorted(alike.items(), key=lambda item: -item[1]),
        prefetched=int(copied),
        unknown=runs.unknown,
    )


def product_rate(module: hlo.Module, flops: float, chip: Chip) -> float:
    """FLOP/s of a program that does `flops` FLOP, by the compiler's estimate; 0 without one."""
    runs = hlo.runs(module)
    found = [t for t in _timed(module, runs, chip, 0) if t.cost.by == COMPILER]
    seconds = sum(t.times * t.cost.seconds for t in found)
    return flops / seconds if seconds else 0.0
