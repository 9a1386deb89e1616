"""What the benchmarks share on the command line and on paper: flags, the race, machine, table."""

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import statistics
from collections.abc import Callable, Sequence

from tools.arguments import Parser, integer
from tools.bench.side import Side
from tools.bench.work import SIZES, Settings

OURS, THEIRS = "tools.bench.ours:Ours", "tools.bench.theirs:Theirs"
# (our side, PyTorch's or None) -> (what the JSON line holds, exit code); None: nothing measured.
Measure = Callable[[Side, Side | None], tuple[dict, int] | None]


def common_flags(tool: str, description: str | None) -> Parser:
    """The flags of `tools.bench.train` and `tools.bench.retrieval`."""
    parser = Parser(tool, description)
    add = parser.add_argument
    add("--size", choices=SIZES, default="full", help="of the network")
    add("--against", choices=("torch", "none"), default="none", help="whom to race")
    add("--repeats", type=integer(1, 10_000), default=5,
        help="runs of each side, in turn; the median counts")  # fmt: skip
    add("--dtype", choices=("float32", "bfloat16"), help="of activations (bfloat16 with --gpu)")
    add("--gpu", action="store_true", help="accelerator sizes; says what it would run without one")
    add("--words", type=integer(1, 1000), nargs=2, default=(15, 45), metavar=("LEAST", "MOST"),
        help="of a caption")  # fmt: skip
    add("--depth", type=integer(0, 1000), default=0,
        help="layers of each part, to try things; 0: all")  # fmt: skip
    add("--threads", type=integer(0, 4096), default=0, help="of either side; 0: all cores")
    add("--clock", choices=("wall", "cpu"), default="wall",
        help="cpu counts processor seconds: with --threads=1, for a busy machine")  # fmt: skip
    return parser


def read_flags(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags, with --dtype filled in; what no flag's type can tell is checked here."""
    flags = parser.flags(argv)
    least, most = flags.words
    if least > most:
        parser.error(f"argument --words: LEAST is {least}, expected at most MOST, {most}")
    if flags.against == "torch":
        missing = [m for m in ("torch", "transformers") if importlib.util.find_spec(m) is None]
        if missing:
            lacking = " and ".join(missing)
            parser.error(f"--against=torch needs {lacking}: pip install -e '.[torch]'")
    flags.dtype = flags.dtype or ("bfloat16" if flags.gpu else "float32")
    return flags


def settings_of(flags: argparse.Namespace, batch: int = 1, forward: int = 1) -> Settings:
    """What the sides are told.

    Args:
      flags: from `read_flags`.
      batch: pairs of a training step.
      forward: rows of the forward parts.
    """
    return Settings(
        size=flags.size,
        dtype=flags.dtype,
        depth=flags.depth,
        batch=batch,
        forward=forward,
        words=tuple(flags.words),
        clock=flags.clock,
        threads=flags.threads,
        remat=getattr(flags, "remat", "off"),
    )


def _environment(flags: argparse.Namespace) -> dict[str, str]:
    """Variables of both processes."""
    variables = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TOKENIZERS_PARALLELISM": "false"}
    if not flags.gpu:
        variables |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    if flags.threads:
        variables["OMP_NUM_THREADS"] = str(flags.threads)
    if flags.threads == 1:
        one = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        variables["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {one}".strip()
    return variables


def race(flags: argparse.Namespace, settings: Settings, measure: Measure) -> int:
    """Starts the sides, measures, prints what was found as the last line; the exit code.

    Args:
      flags: from `read_flags`.
      settings: of the work.
      measure: asks the sides.

    Raises:
      UsageError: a side refused, or ran out of memory.
    """
    variables = _environment(flags)
    with contextlib.ExitStack() as stack:
        theirs = None
        if flags.against == "torch":
            theirs = Side(THEIRS, variables, settings=settings)
            stack.callback(theirs.close)
        ours = Side(OURS, variables, settings=settings)
        stack.callback(ours.close)
        found = measure(ours, theirs)
    if found is None:
        return 0
    print(json.dumps(found[0]))
    return found[1]


def median(seconds: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(seconds)


def processor() -> str:
    """The processor's name and how many of its cores this process may use."""
    model = platform.processor() or platform.machine()
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} core{'s' if cores != 1 else ''}"


def machine(flags, device: str) -> str:
    """One line on where and when this ran."""
    where = processor() if device == "cpu" else device
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
