"""The time a TPU's program takes by its own compiler's estimate, by part of the model and by kind.

The compiler writes `estimated_cycles` beside every fusion it makes. They are added up over the
instructions that are executed, as often as they are; what is fused is part of its fusion. A Pallas
kernel has no such figure: it counts with the larger of its FLOP over the chip's peak and its bytes
over the bandwidth of its memory. That is a bound from below, and stands in a row of its own.

What the sum leaves out: waiting for collectives, the host, and copies between memory and core that
run beside computation and may take longer than it. `Estimate.prefetched` has the bytes of those.
"""

import collections
import re
from collections.abc import Iterator
from typing import NamedTuple

from tools.device import hlo, kinds
from tools.device.chips import Chip

_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_FLOPS = re.compile(r'"flops":"?(\d+)')
_KERNELS = {"tpu_custom_call"}
_CUDNN = re.compile(r'custom_call_target="((?:__cudnn|__cublas|__triton|triton)[^"]*)"')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_KERNEL_NAME = re.compile(r"[.\d]+$")
KERNELS = "Pallas kernels (roofline)"


class Kernel(NamedTuple):
    """Calls of one kernel: name, times a run, seconds by the roofline in all, what bounds it."""

    name: str
    times: int
    seconds: float
    bound: str


class Estimate(NamedTuple):
    """One run of a program on one device.

    Attributes:
      seconds: in all; kernels included.
      kinds: seconds by kind of work.
      parts: seconds by part of the model, (forward, backward).
      kernels: Pallas kernels.
      largest: ((kind, part, shape, path), seconds) of what takes most.
      prefetched: bytes copied between memory and core beside computation.
      unknown: loops of unknown length, counted once.
    """

    seconds: float
    kinds: dict[str, float]
    parts: dict[str, tuple[float, float]]
    kernels: list[Kernel]
    largest: list[tuple[tuple[str, str, str, str], float]]
    prefetched: int
    unknown: list[str]


def kernel_name(instruction: hlo.Instruction) -> str:
    """A Pallas kernel's name: that of its call without the compiler's number."""
    return _KERNEL_NAME.sub("", instruction.name)


def is_kernel(instruction: hlo.Instruction) -> bool:
    """Whether an instruction calls a Pallas kernel of the TPU."""
    target = _TARGET.search(instruction.rest) if instruction.opcode == "custom-call" else None
    return target is not None and target[1] in _KERNELS


def _roofline(
    instruction: hlo.Instruction, computation: hlo.Computation, chip: Chip
) -> tuple[float, str]:
    """(seconds, what bounds it) of one call of a kernel."""
    shapes = [computation[name].result for name in instruction.operands if name in computation]
    size = sum(map(hlo.byte_size, [*shapes, instruction.result]))
    flops = _FLOPS.search(instruction.rest)
    compute, memory = int(flops[1]) / chip.peak if flops else 0.0, size / chip.bandwidth
    if not flops:
        return memory, "bytes; it states no FLOP"
    return max(compute, memory), "FLOP" if compute > memory else "bytes"


def _prefetched(instruction: hlo.Instruction) -> int:
    """Bytes that an asynchronous copy or slice moves."""
    if instruction.opcode not in ("copy-start", "slice-start"):
        return 0
    # The result is (what is copied, the copy, a flag); of a slice the copy is the smaller.
    shapes = re.findall(r"[a-z]\w*\[[\d,]*\]", instruction.result)
    return min(map(hlo.byte_size, shapes[:2])) if len(shapes) > 1 else 0


def _surroundings(module: hlo.Module) -> dict[str, str]:
    """Of each loop's or condition's computation, the path of what it belongs to."""
    paths = {}
    for computation in module.computations.values():
        for instruction in computation.values():
            if instruction.opcode in ("while", "conditional", "call"):
                for name in [
                    *instruction.called("body", "condition", "to_apply"),
                    *instruction.branches(),
                ]:
                    paths[name] = instruction.op_name
    return paths


class _Timed(NamedTuple):
    """One instruction: times a run, seconds in all of them, and of a kernel its name and bound."""

    kind: str
    part: str
    shape: str
    path: str
    times: int
    seconds: float
    kernel: str = ""
    bound: str = ""


def _timed(module: hlo.Module, runs: hlo.Runs, chip: Chip, vocabulary: int) -> Iterator[_Timed]:
    """Every instruction that takes time; arguments as of `estimate`."""
    around = _surroundings(module)
    for name, times in runs.times.items():
        computation, outer = module.computations.get(name, {}), around.get(name, "")
        for instruction in computation.values():
            cycles = _CYCLES.search(instruction.rest)
            if cycles is None and not is_kernel(instruction):
                continue
            path = kinds.path_of(module, instruction) or outer
            part = kinds.part_of(path, outer, instruction.result, vocabulary)
            shape = hlo.shape_text(instruction.result)
            if cycles is None:
                seconds, bound = _roofline(instruction, computation, chip)
                kernel = kernel_name(instruction), bound
                yield _Timed(KERNELS, part, shape, path, times, times * seconds, *kernel)
                continue
            kind = kinds.kind_of(module, instruction, path, part)
            yield _Timed(kind, part, shape, path, times, times * int(cycles[1]) / chip.clock)


def estimate(module: hlo.Module, chip: Chip, vocabulary: int) -> Estimate:
    """Adds up a program's cycles.

    Args:
      module: compiled for a TPU.
      chip: that TPU.
      vocabulary: words of the model, by whose number its tables are known.
    """
    runs = hlo.runs(module)
    by_kind: dict[str, float] = dict.fromkeys((*kinds.KINDS, KERNELS), 0.0)
    by_part = {part: [0.0, 0.0] for part in kinds.PARTS}
    alike: dict[tuple[str, str, str, str], float] = collections.defaultdict(float)
    kernels: dict[str, Kernel] = {}
    for timed in _timed(module, runs, chip, vocabulary):
        by_kind[timed.kind] += timed.seconds
        by_part[timed.part][kinds.is_backward(timed.path)] += timed.seconds
        alike[timed.kind, timed.part, timed.shape, timed.path] += timed.seconds
        if timed.kernel:
            before = kernels.get(timed.kernel, Kernel(timed.kernel, 0, 0.0, ""))
            total = before.times + timed.times, before.seconds + timed.seconds
            kernels[timed.kernel] = Kernel(timed.kernel, *total, timed.bound)
    copied = (
        times * _prefetched(instruction)
        for name, times in runs.times.items()
        for instruction in module.computations.get(name, {}).values()
    )
    return Estimate(
        seconds=sum(by_kind.values()),
        kinds={kind: seconds for kind, seconds in by_kind.items() if seconds},
        parts={part: (both[0], both[1]) for part, both in by_part.items() if any(both)},
        kernels=sorted(kernels.values(), key=lambda kernel: -kernel.seconds),
        largest=sorted(alike.items(), key=lambda item: -item[1]),
        prefetched=sum(copied),
        unknown=runs.unknown,
    )


def fused_kernels(module: hlo.Module) -> dict[str, int]:
    """Kernels that somebody wrote by hand, by name: how often a run calls each.

    Pallas kernels of the TPU by their names; of a GPU cuDNN's, cuBLAS's and Triton's calls.
    """
    found = collections.Counter()
    for name, times in hlo.runs(module).times.items():
        for instruction in module.computations.get(name, {}).values():
            if is_kernel(instruction):
                found[kernel_name(instruction)] += times
                continue
            library = _CUDNN.search(instruction.rest)
            if library and instruction.opcode == "custom-call":
                found[library[1]] += times
    return dict(found)


def product_rate(module: hlo.Module, flops: float) -> float:
    """FLOP a cycle of a program that does `flops` FLOP."""
    cycles = [
        times * int(found[1])
        for name, times in hlo.runs(module).times.items()
        for instruction in module.computations.get(name, {}).values()
        if (found := _CYCLES.search(instruction.rest))
    ]
    return flops / sum(cycles) if cycles else 0.0
