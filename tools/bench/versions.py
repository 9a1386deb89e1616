"""Two versions of the package side by side: a training step, and a re-ranking, on this CPU.

    git worktree add ../before COMMIT
    python -m tools.bench.versions --against=../before

Each version is a process of its own, started as `cada_jax.main` starts; they take turns, and the
third call of each turn counts. Both clocks are told: on a busy machine only the processor's seconds
count. The last line is JSON.
"""

import importlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence

from cada_jax.common.command_line import DONE, run_command
from cada_jax.common.errors import UsageError
from tools.arguments import Parser, integer
from tools.bench import report

WORKS = ("step", "rerank")
HEADER = ("", "before, ms", "now, ms", "ratio", "before, cpu ms", "now, cpu ms", "ratio")


def serve(work: str, name: str, rows: int) -> None:
    """In a process of a version: compiles, then does the work once for every line it is sent."""
    _take_memory_settings()
    from cada_jax.config import load_config
    from tools.bench import addons

    config = load_config(name)
    start = time.perf_counter(), time.process_time()
    if work == "step":
        run, _ = addons.compiled_step(config)
    else:
        run, _ = addons.reranking(config, False, rows)
    _tell(start)
    for _ in sys.stdin:
        start = time.perf_counter(), time.process_time()
        run()
        _tell(start)


def _take_memory_settings() -> None:
    """As the `cada_jax.main` of the version does."""
    try:
        from cada_jax.common.kept_memory import keep_memory

        keep_memory()
        return
    except ImportError:  # an older version
        pass
    try:
        older = importlib.import_module("cada_jax.common.huge_pages")
    except ImportError:  # a still older one
        return
    # Versions up to 2026-11-27 had "restart_with_huge_pages" alone.
    for name in ("restart_with_huge_pages", "restart_with_settings", "run_where_memory_is_kept"):
        if hasattr(older, name):
            getattr(older, name)()


def _tell(start: tuple[float, float]) -> None:
    print(json.dumps([time.perf_counter() - start[0], time.process_time() - start[1]]), flush=True)


class Version:
    """A checkout at work in a process of its own."""

    def __init__(self, root: pathlib.Path, work: str, config: str, rows: int):
        """Starts it; `compiled` is what the first call took, [wall, cpu] seconds."""
        environment = {**os.environ, "PYTHONPATH": str(root), "JAX_COMPILATION_CACHE_DIR": ""}
        command = [sys.executable, str(pathlib.Path(__file__).resolve()), "--serve", work, config]
        self._process = subprocess.Popen(
            [*command, str(rows)],
            cwd=root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin and self._process.stdout
        self._root, self._to, self._from = root, self._process.stdin, self._process.stdout
        self.compiled = self._answer()

    def run(self) -> list[float]:
        """Does the work once: [wall, cpu] seconds."""
        self._to.write("\n")
        self._to.flush()
        return self._answer()

    def _answer(self) -> list[float]:
        line = self._from.readline()
        if not line:
            raise UsageError(f"{self._root}: the benchmark ended there, see its message above")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        self._to.close()
        self._process.wait()


def compare(roots: Sequence[pathlib.Path], work: str, flags) -> dict:
    """Medians of [wall, cpu] seconds of each version, and what compiling took."""
    versions = [Version(root, work, flags.config, flags.rows) for root in roots]
    taken = [[], []]
    for turn in range(flags.repeats + 1):
        for version, list_ in zip(versions, taken, strict=True):
            # A virtual machine takes back what a waiting process has freed, and is slow to give it
            # out again. Steps of a training follow one another.
            version.run()
            version.run()
            seconds = version.run()
            if turn:  # the first turn warms up
                list_.append(seconds)
    for version in versions:
        version.close()
    medians = [[report.median(x) for x in zip(*list_, strict=True)] for list_ in taken]
    compiled = [version.compiled for version in versions]
    return {"work": work, "before": medians[0], "now": medians[1], "compile": compiled}


def work_of(argv: Sequence[str] | None) -> int:
    """Reads the flags, measures, prints a table and JSON; returns the exit code."""
    parser = Parser("tools.bench.versions", __doc__)
    add = parser.add_argument
    add("--against", type=pathlib.Path, required=True, help="folder of another checkout")
    add("--config", default="synthetic", help="configuration file")
    add("--rows", type=integer(1), default=64, help="images, and texts, of a re-ranking")
    add("--repeats", type=integer(1, 10_000), default=10, help="calls of each, in turn")
    flags = parser.flags(argv)
    if not (flags.against / "tools" / "bench" / "addons.py").is_file():
        parser.error(f"--against={flags.against}: expected a checkout of this repository")
    here = pathlib.Path(__file__).resolve().parents[2]
    found = [compare((flags.against.resolve(), here), work, flags) for work in WORKS]
    rows = []
    for x in found:
        calls = {x["work"]: (x["before"], x["now"]), f"its first call: {x['work']}": x["compile"]}
        for name, (before, now) in calls.items():
            pairs = zip(before, now, strict=True)
            rows.append((name, *(v for a, b in pairs for v in (1e3 * a, 1e3 * b, a / b))))
    print(report.table(HEADER, rows))
    print(json.dumps(found))
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: work_of(argv))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        sys.path.pop(0)  # this folder: the version's own modules are to be found
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        sys.exit(main())
