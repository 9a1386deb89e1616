"""What the benchmarks share on paper: medians, the machine, a table."""

import os
import pathlib
import platform
from collections.abc import Sequence


def processor() -> str:
    """The processor's name and how many of its cores this process may use."""
    model, told = platform.machine(), pathlib.Path("/proc/cpuinfo")
    for line in told.read_text().splitlines() if told.exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} core{'s' if cores != 1 else ''}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows in columns; numbers to three digits, None as a dash."""
    texts = [list(header)] + [[_text(x) for x in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = []
    for first, *others in texts:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def _text(x: object) -> str:
    if x is None:
        return "-"
    if isinstance(x, float):
        return f"{x:.0f}" if abs(x) >= 100 else f"{x:.3g}"
    return str(x)
