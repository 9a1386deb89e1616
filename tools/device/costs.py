"""What one instruction of a compiled program takes: by its compiler's estimate, or by a roofline.

A TPU's compiler writes `estimated_cycles` beside every fusion. A GPU's writes `reification_cost`
when it is asked to: of a Triton fusion the entry "indexing-cost-model" counts, of a product "sol",
of any other fusion the one without a name. What has neither is a kernel that somebody wrote by
hand, or a copy, a sort, a call of a library: it takes as long as its bytes at the bandwidth of the
memory, or its FLOP at the peak. That is a bound from below, and is reported by name.
"""

import re
from typing import NamedTuple

from tools.device import hlo
from tools.device.chips import GPUS, MODELLED, Chip

COMPILER, KERNEL, BYTES = "compiler", "kernel", "bytes"
PRODUCT_CALLS = ("__cublas$gemm", "__cublas$lt$matmul")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_COSTS = re.compile(r'"exec_time_us":([\d.e+-]+),[^{}]*"name":"([^"]*)"')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_STATED = {name: re.compile(rf'"{name}":\s*"?(\d+)') for name in ("flops", "operations")}
_NAME = re.compile(r'\bname = "(\w+)"')
_NUMBER = re.compile(r"[.\d]+$")
_PALLAS = {"tpu_custom_call", "__gpu$xla.gpu.triton"}
# What a GPU starts no kernel for, or what stands for the instructions of a computation.
_NOTHING = set(
    "parameter constant get-tuple-element tuple bitcast while conditional call after-all iota "
    "partition-id replica-id optimization-barrier async-start async-update".split()
)


class Cost(NamedTuple):
    """One run of an instruction.

    by: what says so, `COMPILER`, `KERNEL` or `BYTES`; name, bound: unless it is the compiler, of
    what is called, and what it is bound by.
    """

    seconds: float
    by: str
    name: str = ""
    bound: str = ""


def call_target(instruction: hlo.Instruction) -> str:
    """What a custom call calls, "" for any other instruction."""
    found = _TARGET.search(instruction.rest) if instruction.opcode == "custom-call" else None
    return found[1] if found else ""


def is_kernel(instruction: hlo.Instruction) -> bool:
    """Whether an instruction calls a Pallas kernel."""
    return call_target(instruction) in _PALLAS


def kernel_name(instruction: hlo.Instruction) -> str:
    """A Pallas kernel's name: on a TPU that of its call without the compiler's number."""
    named = _NAME.search(instruction.rest)
    return named[1] if named else _NUMBER.sub("", instruction.name)


def _bytes_moved(instruction: hlo.Instruction, computation: hlo.Computation) -> int:
    """Bytes of an instruction's result and of its operands, each of them once."""
    read = dict.fromkeys(name for name in instruction.operands if name in computation)
    shapes = [computation[name].result for name in read]
    return sum(map(hlo.byte_size, [*shapes, instruction.result]))


def _roofline(
    instruction: hlo.Instruction, computation: hlo.Computation, chip: Chip
) -> tuple[float, str]:
    """(seconds, what bounds it): the largest of bytes, FLOP, and of a GPU other operations."""
    text = instruction.rest.replace("\\22", '"')
    stated = {name: int(m[1]) for name, p in _STATED.items() if (m := p.search(text))}
    seconds = {"bytes": _bytes_moved(instruction, computation) / chip.bandwidth}
    if "flops" not in stated:
        return seconds["bytes"], "bytes; it states no FLOP"
    seconds["FLOP"] = stated["flops"] / chip.peak
    if chip.vector and "operations" in stated:
        seconds["operations"] = stated["operations"] / chip.vector
    bound = max(seconds, key=lambda name: seconds[name])
    return seconds[bound], bound


def _of_gpu(instruction: hlo.Instruction, computation: hlo.Computation, chip: Chip) -> float | None:
    """Seconds by the estimate of a GPU's compiler; None where it wrote none."""
    costs = {name: float(us) / 1e6 for us, name in _COSTS.findall(instruction.rest)}
    if call_target(instruction) in PRODUCT_CALLS:
        found = costs.get("sol")
        assert chip.gpu is not None
        if found is None or chip.gpu.capability in MODELLED:
            return found
        # The model has an H100's rate of products here: its share of the peak is taken for ours.
        scaled = found * GPUS["h100"].peak / chip.peak
        return max(scaled, _bytes_moved(instruction, computation) / chip.bandwidth)
    if '"kind":"__triton' in instruction.rest:
        return costs.get("indexing-cost-model")
    return costs.get("")


def cost(instruction: hlo.Instruction, computation: hlo.Computation, chip: Chip) -> Cost | None:
    """What an instruction takes, None for one that takes no time by itself.

    Args:
      instruction: of a computation that is executed, not of a fusion; no collective.
      computation: that it stands in.
      chip: it was compiled for.
    """
    if is_kernel(instruction):
        seconds, bound = _roofline(instruction, computation, chip)
        return Cost(seconds, KERNEL, kernel_name(instruction), bound)
    if chip.gpu is None:
        # A TPU's compiler has a figure for whatever computes.
        cycles = _CYCLES.search(instruction.rest)
        return Cost(int(cycles[1]) / chip.clock, COMPILER) if cycles else None
    if instruction.opcode in _NOTHING or instruction.opcode.endswith("-done"):
        return None
    seconds = _of_gpu(instruction, computation, chip)
    if seconds is not None:
        return Cost(seconds, COMPILER)
    seconds, bound = _roofline(instruction, computation, chip)
    return Cost(seconds, BYTES, call_target(instruction) or instruction.opcode, bound)
