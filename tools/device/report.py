"""What `tools.device.compile` found, as text for people and as values for JSON."""

import dataclasses
from typing import Any

from tools.device import collectives
from tools.device.chips import GIB, Chip
from tools.device.estimate import KERNELS, Estimate
from tools.device.memory import Memory
from tools.device.programs import Evaluation, Program

CPU_CHIPS = (16, 32, 80)  # GiB, what a count and the CPU's figure are held against
USABLE = 0.92
LEFT_OUT = (
    "The estimate leaves out: waiting for collectives, the host, and copies between memory and "
    "core that run beside computation. Conditions count as taken."
)
ROOFLINE = (
    "Pallas kernels have no estimate of the compiler's: they count with the larger of FLOP / peak "
    "and bytes / bandwidth, a bound from below."
)


@dataclasses.dataclass(frozen=True)
class Result:
    """One program, compiled or refused or only read.

    Attributes:
      program: what was compiled.
      devices: how many the mesh has.
      chip: None for the CPU.
      memory: as compiled; None where nothing was.
      counted: bytes by part in a training step; empty for other programs.
      sent: its collectives.
      kernels: hand-written kernels, by name: calls a run.
      estimate: of a TPU's program.
      product: FLOP/s that the same compiler gives a large product; 0 without an estimate.
      seconds: that compiling took.
    """

    program: Program
    devices: int
    chip: Chip | None
    memory: Memory | None
    counted: dict[str, int]
    sent: list[collectives.Collective] = dataclasses.field(default_factory=list)
    kernels: dict[str, int] = dataclasses.field(default_factory=dict)
    estimate: Estimate | None = None
    product: float = 0.0
    seconds: float = 0.0

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


def _memory_lines(result: Result) -> list[str]:
    lines = [f"{name:<34} {size / GIB:8.3f} GiB" for name, size in result.counted.items()]
    figures = {"by count": result.counted["at once, by count"]} if result.counted else {}
    memory, chip = result.memory, result.chip
    if memory is not None and memory.refused:
        needed = f"{memory.needed / GIB:.2f} GiB" if memory.needed else "more"
        of = f" of {memory.available / GIB:.2f} GiB" if memory.available else ""
        lines.append(f"out of memory: the compiler refused it, it needs {needed}{of}")
    elif memory is not None:
        lines.append(f"{'compiled: state and batch':<34} {memory.inputs / GIB:8.3f} GiB")
        lines.append(f"{'compiled: while it runs':<34} {memory.running / GIB:8.3f} GiB")
        lines.append(f"{'at once, compiled':<34} {memory.total / GIB:8.3f} GiB")
        figures["compiled"] = memory.total
    if chip is None:
        for name, size in figures.items():
            fits = (f"{c} GiB {'yes' if size <= USABLE * c * GIB else 'no'}" for c in CPU_CHIPS)
            lines.append(f"fits, {name}: {', '.join(fits)}")
    elif memory is not None:
        answer = "fits" if result.fits else "does not fit"
        usable = chip.usable * chip.memory / GIB
        lines.append(
            f"{answer} {chip.name}: {usable:.2f} of {chip.memory / GIB:.1f} GiB are usable"
        )
    return lines


def _row(name: str, *seconds: float, total: float) -> str:
    times = "".join(f"{1e3 * value:10.2f}" for value in seconds)
    return f"  {name:<32}{times} {sum(seconds) / total if total else 0:7.1%}"


def _estimate_lines(result: Result, rows: int) -> list[str]:
    found, chip = result.estimate, result.chip
    if found is None or chip is None:
        return []
    total = found.seconds
    lines = [
        f"estimated by the compiler: {1e3 * total:.1f} ms a run, {result.share:.1%} of what it "
        f"gives a product of 8192 x 8192 x 8192 ({result.product / 1e12:.0f} TFLOP/s)",
        f"ideal: {1e3 * result.ideal:.1f} ms, the model's "
        f"{result.program.flops / result.devices / 1e12:.2f} TFLOP a device at "
        f"{chip.peak / 1e12:.0f} TFLOP/s",
        f"  {'kind':<32}{'ms':>10}",
    ]
    lines += [_row(kind, seconds, total=total) for kind, seconds in found.kinds.items()]
    lines.append(f"  {'part':<32}{'forward':>10}{'backward':>10}")
    lines += [_row(part, *both, total=total) for part, both in found.parts.items()]
    for kernel in found.kernels:
        lines.append(
            f"  kernel {kernel.name}: {kernel.times} times, at least "
            f"{1e3 * kernel.seconds:.2f} ms, bound by {kernel.bound}"
        )
    lines.append(f"  largest, in ms: {'kind; part; shape; path'}")
    for (kind, part, shape, path), seconds in found.largest[:rows]:
        lines.append(f"  {1e3 * seconds:9.3f} {kind}; {part}; {shape[:48]}; {path[-70:]}")
    beside = found.prefetched / chip.bandwidth
    lines.append(
        f"  copies beside computation: {found.prefetched / 1e9:.2f} GB, "
        f"{1e3 * beside:.1f} ms of the memory's time"
    )
    if found.unknown:
        lines.append(f"  loops of unknown length, counted once: {', '.join(found.unknown)}")
    return [*lines, LEFT_OUT, *([ROOFLINE] if KERNELS in found.kinds else [])]


def bound_of(result: Result) -> str:
    """What most of a program's estimated time goes to."""
    found = result.estimate
    if found is None or not found.kinds:
        return "unknown"
    kind, seconds = max(found.kinds.items(), key=lambda item: item[1])
    return f"{kind}, {seconds / found.seconds:.0%}"


def evaluation_line(result: Result, size: Evaluation) -> str:
    """Seconds of an evaluation that a program takes, by the estimate or at the chip's peak."""
    runs, items = size.runs_over(result.program), result.program.items
    what = f"{result.program.name}: {runs:.0f} runs of {items:.0f} {result.program.unit}"
    if result.estimate is None:
        return f"{what}, at least {runs * result.ideal:.2f} s at the peak; no estimate on this chip"
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
    lines = _memory_lines(result)
    if result.kernels:
        calls = ", ".join(f"{name} {times} times" for name, times in result.kernels.items())
        lines.append(f"fused kernels: {calls}")
    elif result.memory is not None and not result.memory.refused and result.chip:
        lines.append("fused kernels: none")
    if result.memory is None or not result.memory.refused:
        lines += _estimate_lines(result, rows)
        if result.chip and not result.chip.clock:
            lines.append("no estimate of the time: a GPU's compiler writes none")
        if result.memory is not None or result.sent:
            lines.append(collectives.table(result.sent, rows))
    return "\n".join(lines)


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
        "kernels": [kernel._asdict() for kernel in found.kernels],
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
        "counted": result.counted,
        "fits": result.fits,
        "flops_a_device": program.flops / result.devices,
        "ideal_ms": 1e3 * result.ideal,
        "kernels": result.kernels,
        "collective_bytes": collectives.total_bytes(result.sent),
        "estimate": _estimate_values(result),
        "seconds_to_compile": result.seconds,
    }
    if program.name != "train":
        runs = size.runs_over(program)
        found["evaluation"] = {"runs": runs, "bound": bound_of(result)}
        if result.estimate:
            found["evaluation"]["seconds"] = runs * result.estimate.seconds
    return found
