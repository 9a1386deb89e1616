"""Two versions side by side: a training step, and a re-ranking.

    git worktree add ../before COMMIT
    python -m tools.bench.versions --against=../before
    python -m tools.bench.versions --against=. --change loss.global=tal
    python -m tools.bench.versions --against=torch --config=default --rows=8 --set
        train.batch_size=4
    python -m tools.bench.versions --config=rstp --set model.dtype=bfloat16

--against is another checkout, or `torch`: Hugging Face's BLIP classes on the schedule of the
released CADA code. --set changes fields for both sides, --change for the second, which is this
checkout. Without --against this checkout is timed alone. Each side is a process of its own, started
as `cada_jax.main` starts; they take turns, and the third call of each turn counts. Both clocks are
told: on a busy machine only the processor's seconds count. The last line is JSON.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from cada_jax.common.errors import UsageError
from tools.arguments import Parser, command, integer
from tools.bench import report, served
from tools.bench.served import Task

WORKS = ("step", "rerank")
HEADER = ("", "before, ms", "now, ms", "ratio", "before, cpu ms", "now, cpu ms", "ratio")
HERE = pathlib.Path(__file__).resolve().parents[2]


class Side:
    """A task at work in a process of its own."""

    def __init__(self, task: Task):
        """Starts it; `compiled` is what the first call took, [wall, cpu] seconds."""
        environment = {
            **os.environ,
            "PYTHONPATH": task.root,
            "JAX_COMPILATION_CACHE_DIR": "",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # two processes share an accelerator
        }
        self._task = task
        self._process = subprocess.Popen(
            [sys.executable, served.__file__, json.dumps(task)],
            cwd=task.root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin and self._process.stdout
        self._to, self._from = self._process.stdin, self._process.stdout
        self.compiled = self._answer()

    def run(self) -> list[float]:
        """Does the work once: [wall, cpu] seconds."""
        self._to.write("\n")
        self._to.flush()
        return self._answer()

    def _answer(self) -> list[float]:
        line = self._from.readline()
        if not line:
            raise UsageError(f"{self._task.root}: the benchmark ended there, see its message above")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        with self._process:  # closes its pipes and waits
            pass


def compare(tasks: Sequence[Task], repeats: int) -> list[dict[str, list[float]]]:
    """Of each task its "call", medians of [wall, cpu] seconds, and its "compile"."""
    sides = [Side(task) for task in tasks]
    taken: list[list] = [[] for _ in sides]
    for turn in range(repeats + 1):
        for side, list_ in zip(sides, taken, strict=True):
            # A virtual machine takes back what a waiting process has freed, and is slow to give it
            # out again. Steps of a training follow one another.
            side.run()
            side.run()
            seconds = side.run()
            if turn:  # the first turn warms up
                list_.append(seconds)
    for side in sides:
        side.close()
    return [
        {"call": [statistics.median(x) for x in zip(*list_, strict=True)], "compile": side.compiled}
        for side, list_ in zip(sides, taken, strict=True)
    ]


def table(found: dict[str, list[dict[str, list[float]]]]) -> str:
    """The two sides of each work, their calls and their first calls; one side has no ratios."""
    rows = []
    for work, sides in found.items():
        for part, name in (("call", work), ("compile", f"its first call: {work}")):
            cells: list[Any] = [name]
            for clock in range(2):
                times = [1e3 * side[part][clock] for side in sides]
                before = times[0] if len(times) > 1 else None
                cells += [before, times[-1], before and before / times[-1]]
            rows.append(cells)
    return report.table(HEADER, rows)


def run(argv: Sequence[str] | None) -> int:
    """Reads the flags, measures, prints a table and JSON; returns the exit code."""
    parser = Parser("tools.bench.versions", __doc__)
    add = parser.add_argument
    add("--against", metavar="FOLDER", help="folder of another checkout, or torch")
    add("--config", default="synthetic", help="configuration file")
    add("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="changes of both sides")
    add("--change", nargs="*", default=[], metavar="FIELD=VALUE", help="of the second alone")
    add("--rows", type=integer(1), default=64, help="images, and texts, of a re-ranking")
    add("--repeats", type=integer(1), default=10, help="calls of each, in turn")
    flags = parser.flags(argv)
    from tools.config_file import parse_changes

    both, second = parse_changes(flags.set), parse_changes(flags.change)
    found = {}
    for work in WORKS:
        here = Task(str(HERE), False, work, flags.config, both | second, flags.rows)
        tasks = [here]
        if flags.against:
            torch = flags.against == "torch"
            root = str(HERE if torch else pathlib.Path(flags.against).resolve(strict=True))
            tasks.insert(0, here._replace(root=root, torch=torch, changes=both))
        found[work] = compare(tasks, flags.repeats)
    print(table(found))
    print(json.dumps(found))
    return 0


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
