"""What the benchmarks share on the command line and on paper: flags, table, machine, plot."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import sys
from collections.abc import Callable, Sequence

from cada_jax.common.errors import UsageError
from tools.bench.side import Side
from tools.bench.work import SIZES

OURS, THEIRS = "tools.bench.ours:Ours", "tools.bench.theirs:Theirs"


def common_flags(description: str) -> argparse.ArgumentParser:
    """The flags of both tools."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", choices=SIZES, default="full", help="of the network")
    add("--against", choices=("torch", "none"), default="none", help="whom to race")
    add("--repeats", type=int, default=5, help="runs of each side, in turn; the median counts")
    add("--dtype", choices=("float32", "bfloat16"), help="of activations (bfloat16 with --gpu)")
    add("--gpu", action="store_true", help="accelerator sizes; says what it would run without one")
    add("--words", type=int, nargs=2, default=(15, 45), metavar=("LEAST", "MOST"),
        help="of a caption")  # fmt: skip
    add("--depth", type=int, default=0, help="layers of each part, to try things; 0: all")
    add("--threads", type=int, default=0, help="of either side; 0: all cores")
    add("--clock", choices=("wall", "cpu"), default="wall",
        help="cpu counts processor seconds: with --threads=1, for a busy machine")  # fmt: skip
    return parser


def start_sides(flags, batch: int, forward: int) -> tuple[Side, Side | None]:
    """Starts our process and, if asked for, PyTorch's."""
    kwargs = dict(
        size=flags.size,
        dtype=flags.dtype or ("bfloat16" if flags.gpu else "float32"),
        depth=flags.depth,
        batch=batch,
        forward=forward,
        words=tuple(flags.words),
        clock=flags.clock,
    )
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TOKENIZERS_PARALLELISM": "false"}
    if not flags.gpu:
        environment["JAX_PLATFORMS"] = "cpu"
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if flags.threads:
        environment["OMP_NUM_THREADS"] = str(flags.threads)
    ours = dict(environment)
    if flags.threads == 1:
        one = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        ours["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {one}".strip()
    theirs = None
    if flags.against == "torch":
        theirs = Side(THEIRS, environment, **kwargs, threads=flags.threads)
    return Side(OURS, ours, **kwargs), theirs


def race(
    flags, batch: int, forward: int, measure: Callable[[Side, Side | None], tuple[dict, int] | None]
) -> int:
    """Starts the sides, measures, prints what was found as the last line; the exit status.

    Args:
      flags: from `common_flags`.
      batch: pairs of a training step.
      forward: rows of the forward parts.
      measure: (ours, PyTorch's or None) -> (what the JSON line holds, exit status), or None where
        there was nothing to measure.
    """
    sides = []
    try:
        sides = start_sides(flags, batch, forward)
        found = measure(*sides)
    except UsageError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    finally:
        for side in filter(None, sides):
            side.close()
    if found is None:
        return 0
    print(json.dumps(found[0]))
    return found[1]


def median(seconds: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(seconds)


def machine(flags, device: str) -> str:
    """One line on where and when this ran."""
    model = platform.processor() or platform.machine()
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    where = f"{model}, {cores} cores" if device == "cpu" else device
    return f"{where}; {datetime.date.today()}; clock: {flags.clock}; medians of {flags.repeats}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows in columns; numbers to three digits, None as a dash."""
    texts = [list(header)] + [[_text(x) for x in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(header))]
    lines = []
    for row in texts:
        cells = [
            x.ljust(w) if i == 0 else x.rjust(w)
            for i, (x, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def _text(x: object) -> str:
    if x is None:
        return "-"
    if isinstance(x, float):
        return f"{x:.0f}" if abs(x) >= 100 else f"{x:.3g}"
    return str(x)


def plot(path: str, title: str, series: dict[str, list[tuple[float, float]]]) -> None:
    """Draws lines through (x, seconds), both axes from 0, as an SVG file.

    Args:
      path: of the file.
      title: above the picture.
      series: name with its unit -> points; every series has its own x scale, its largest x.
    """
    width, height, left, top = 640, 360, 60, 40
    most = max(y for points in series.values() for _, y in points) or 1.0
    colours = ("#1b6ca8", "#c1442e", "#3a8f4b", "#8a5fb0")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 260}" height="{height + 80}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="24" font-size="15">{title}</text>',
    ]
    for i in range(6):
        y = top + height * (1 - i / 5)
        parts.append(f'<line x1="{left}" y1="{y}" x2="{width}" y2="{y}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{most * i / 5:.3g}</text>'
        )
    for (name, points), colour in zip(series.items(), colours, strict=False):
        far = max(x for x, _ in points)
        placed = [
            (left + (width - left) * x / far, top + height * (1 - y / most)) for x, y in points
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(left, top + height), *placed])
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" '
            'stroke-dasharray="5 3"/>'
        )
        for (x, y), (value, _) in zip(placed, points, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            parts.append(f'<text x="{x:.1f}" y="{y - 8:.1f}" fill="{colour}">{value:g}</text>')
        row = top + 20 + 22 * list(series).index(name)
        parts.append(f'<text x="{width + 16}" y="{row}" fill="{colour}">{name}</text>')
    parts.append(
        f'<text x="{left}" y="{height + 70}">seconds, upwards; each point with its size</text>'
    )
    pathlib.Path(path).write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")
