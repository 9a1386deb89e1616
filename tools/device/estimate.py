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


def estimate(module: hlo.Module, chip: Chip, vocabulary: int) -> Estimate:
    """Adds up a program's cycles.

    Args:
      module: compiled for a TPU.
      chip: that TPU.
      vocabulary: words of the model, by whose number its tables are known.
    """
    runs = hlo.runs(module)
    by_kind, largest = collections.Counter(), collections.Counter()
    by_part = {part: [0.0, 0.0] for part in kinds.PARTS}
    called = collections.defaultdict(lambda: [0, 0.0, ""])
    around, prefetched = _surroundings(module), 0
    for name, times in runs.times.items():
        computation = module.computations.get(name, {})
        for instruction in computation.values():
            cycles = _CYCLES.search(instruction.rest)
            kernel = is_kernel(instruction)
            prefetched += times * _prefetched(instruction)
            if not cycles and not kernel:
                continue
            path = kinds.path_of(module, instruction) or around.get(name, "")
            part = kinds.part_of(path, around.get(name, ""), instruction.result, vocabulary)
            if kernel:
                each, bound = _roofline(instruction, computation, chip)
                kind, seconds = KERNELS, times * each
                entry = called[kernel_name(instruction)]
                entry[:] = entry[0] + times, entry[1] + seconds, bound
            else:
                kind = kinds.kind_of(module, instruction, path, part)
                seconds = times * int(cycles[1]) / chip.clock
            by_kind[kind] += seconds
            by_part[part][kinds.is_backward(path)] += seconds
            largest[kind, part, hlo.shape_text(instruction.result), path] += seconds
    kernels = [Kernel(n, *v) for n, v in sorted(called.items(), key=lambda item: -item[1][1])]
    ordered = {k: by_kind[k] for k in (*kinds.KINDS, KERNELS) if k in by_kind}
    parts = {part: (both[0], both[1]) for part, both in by_part.items() if any(both)}
    total = sum(by_kind.values())
    return Estimate(total, ordered, parts, kernels, largest.most_common(), prefetched, runs.unknown)


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
