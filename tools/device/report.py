"""What `tools.device.compile` found, as text for people and as values for JSON."""

import dataclasses
from typing import Any

from tools.device import collectives
from tools.device.chips import GIB, MODELLED, Chip
from tools.device.estimate import KERNELS, UNESTIMATED, Estimate
from tools.device.memory import Memory
from tools.device.programs import Evaluation, Program

LEFT_OUT = (
    "Left out: the host, latencies of collectives, on a TPU copies between memory and core beside "
    "computation, on a GPU autotuning. Conditions count as taken."
)
ROOFLINE = (
    "Rows of the roofline have no estimate of the compiler's. They count with the largest of bytes "
    "/ bandwidth, FLOP / peak and, of a GPU's own kernels, other operations / rate: a bound from "
    "below."
)
OLDER = (
    "The compiler's model has no rates of products for compute capability {}.{}: they are an "
    "H100's share of its peak, and at least the bytes over the bandwidth."
)


@dataclasses.dataclass(frozen=True)
class Result:
    """One program, compiled or refused or only read.

    Attributes:
      program: what was compiled.
      devices: how many the mesh has.
      chip: None for the CPU.
      memory: as compiled; None where nothing was.
      sent: its collectives.
      estimate: None for the CPU.
      product: FLOP/s that the same compiler gives a large product; 0 without an estimate.
    """

    program: Program
    devices: int
    chip: Chip | None
    memory: Memory | None
    sent: list[collectives.Collective] = dataclasses.field(default_factory=list)
    estimate: Estimate | None = None
    product: float = 0.0

    @property
    def fits(self) -> bool | None:
        """Whether a chip's memory holds the program; None where it is not known."""
        if self.chip is None or self.memory is None:
            return None
        return not self.memory.refused and self.memory.total <= self.chip.usable * self.chip.memory

    @property
    def ideal(self) -> float:
        """Seconds that the model's FLOP take at the chip's peak; 0 without a chip."""
        return self.program.flops / self.devices / self.chip.peak if self.chip else 0.0

    @property
    def share(self) -> float:
        """Of the rate that the compiler gives a large product, what it gives the program's FLOP."""
        if self.estimate is None or not self.estimate.seconds or not self.product:
            return 0.0
        return self.program.flops / self.devices / self.product / self.estimate.seconds


def _memory_lines(memory: Memory, result: Result) -> list[str]:
    if memory.refused:
        needed = f"{memory.needed / GIB:.2f} GiB" if memory.needed else "more"
        of = f" of {memory.available / GIB:.2f} GiB" if memory.available else ""
        return [f"out of memory: the compiler refused it, it needs {needed}{of}"]
    lines = [
        f"{'state and batch':<34} {memory.inputs / GIB:8.3f} GiB",
        f"{'while it runs':<34} {memory.running / GIB:8.3f} GiB",
        f"{'at once':<34} {memory.total / GIB:8.3f} GiB",
    ]
    if result.chip:
        usable = result.chip.usable * result.chip.memory / GIB
        answer = "fits" if result.fits else "does not fit"
        of = f"{usable:.2f} of {result.chip.memory / GIB:.1f} GiB are usable"
        lines.append(f"{answer} {result.chip.name}: {of}")
    return lines


def _row(name: str, *seconds: float, total: float) -> str:
    times = "".join(f"{1e3 * value:10.2f}" for value in seconds)
    return f"  {name:<36}{times} {sum(seconds) / total if total else 0:7.1%}"


def _estimate_lines(found: Estimate, chip: Chip, result: Result, rows: int) -> list[str]:
    total = found.seconds
    tflop = result.program.flops / result.devices / 1e12
    lines = [
        f"estimated: {1e3 * total:.1f} ms a run, {result.share:.1%} of what the compiler gives a "
        f"product of 8192 x 8192 x 8192 ({result.product / 1e12:.0f} TFLOP/s)",
        f"ideal: {1e3 * result.ideal:.1f} ms, the model's {tflop:.2f} TFLOP a device at "
        f"{chip.peak / 1e12:.0f} TFLOP/s",
        f"  {'kind':<36}{'ms':>10}",
    ]
    lines += [_row(kind, seconds, total=total) for kind, seconds in found.kinds.items()]
    lines.append(f"  {'part':<36}{'forward':>10}{'backward':>10}")
    lines += [_row(part, *both, total=total) for part, both in found.parts.items()]
    for what, calls in (("kernel", found.kernels), ("no estimate", found.unestimated)):
        for call in calls:
            at_least = f"at least {1e3 * call.seconds:.2f} ms, bound by {call.bound}"
            lines.append(f"  {what} {call.name}: {call.times} times, {at_least}")
    lines.append("  largest, in ms: kind; part; shape; path")
    for (kind, part, shape, path), seconds in found.largest[:rows]:
        lines.append(f"  {1e3 * seconds:9.3f} {kind}; {part}; {shape[:48]}; {path[-70:]}")
    if chip.gpu:
        lines.append(f"  kernels started: {found.launches}")
    else:
        beside = f"{1e3 * found.prefetched / chip.bandwidth:.1f} ms of the memory's time"
        lines.append(f"  copies beside computation: {found.prefetched / 1e9:.2f} GB, {beside}")
    if found.sending:
        lines.append(f"  collectives take {1e3 * found.sending:.1f} ms, most of it may be hidden")
    if found.unknown:
        lines.append(f"  loops of unknown length, counted once: {', '.join(found.unknown)}")
    lines.append(LEFT_OUT)
    if KERNELS in found.kinds or UNESTIMATED in found.kinds:
        lines.append(ROOFLINE)
    if chip.gpu and chip.gpu.capability not in MODELLED:
        lines.append(OLDER.format(*chip.gpu.capability))
    return lines


def bound_of(result: Result) -> str:
    """What most of a program's estimated time goes to."""
    found = result.estimate
    if found is None or not found.kinds:
        return "unknown"
    kind, seconds = max(found.kinds.items(), key=lambda item: item[1])
    return f"{kind}, {seconds / found.seconds:.0%}"


def evaluation_line(result: Result, size: Evaluation) -> str:
    """Seconds of an evaluation that a program takes, by the estimate."""
    runs, items = size.runs_over(result.program), result.program.items
    what = f"{result.program.name}: {runs:.0f} runs of {items:.0f} {result.program.unit}"
    if result.estimate is None:
        return f"{what}, at least {runs * result.ideal:.2f} s at the peak"
    seconds = result.estimate.seconds
    return (
        f"{what}, {items / seconds:,.0f} {result.program.unit}/s, {runs * seconds:.2f} s in all; "
        f"most of it: {bound_of(result)}"
    )


def text(result: Result, rows: int) -> str:
    """The report of one program.

    Args:
      result: what was found.
      rows: lines of each list of the largest.
    """
    lines = _memory_lines(result.memory, result) if result.memory else []
    if result.memory and result.memory.refused:
        return "\n".join(lines)
    if result.estimate and result.chip:
        lines += _estimate_lines(result.estimate, result.chip, result, rows)
    return "\n".join([*lines, collectives.table(result.sent, rows)])


def _estimate_values(result: Result) -> dict[str, Any] | None:
    found = result.estimate
    if found is None:
        return None
    return {
        "ms": 1e3 * found.seconds,
        "share_of_product": result.share,
        "product_flops": result.product,
        "kinds_ms": {kind: 1e3 * s for kind, s in found.kinds.items()},
        "parts_ms": {
            part: {"forward": 1e3 * both[0], "backward": 1e3 * both[1]}
            for part, both in found.parts.items()
        },
        "kernels": [call._asdict() for call in found.kernels],
        "without_an_estimate": [call._asdict() for call in found.unestimated],
        "launches": found.launches,
        "sending_ms": 1e3 * found.sending,
        "copied_beside_bytes": found.prefetched,
        "loops_counted_once": found.unknown,
    }


def values(result: Result, size: Evaluation) -> dict[str, Any]:
    """The same for JSON: bytes, milliseconds, FLOP."""
    program, memory = result.program, result.memory
    found = {
        "program": program.name,
        "items": program.items,
        "unit": program.unit,
        "devices": result.devices,
        "chip": result.chip.name if result.chip else None,
        "memory": None if memory is None else memory._asdict() | {"total": memory.total},
        "fits": result.fits,
        "flops_a_device": program.flops / result.devices,
        "ideal_ms": 1e3 * result.ideal,
        "collective_bytes": collectives.total_bytes(result.sent),
        "estimate": _estimate_values(result),
    }
    if program.name != "train":
        runs = size.runs_over(program)
        found["evaluation"] = {"runs": runs, "bound": bound_of(result)}
        if result.estimate:
            found["evaluation"]["seconds"] = runs * result.estimate.seconds
    return found
