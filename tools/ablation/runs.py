"""The runs of an ablation: which there are, which are done, and running those that are not."""

import contextlib
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from ml_collections import ConfigDict

from cada_jax.common.console import duration
from cada_jax.common.errors import UsageError
from cada_jax.common.files import contents, write_text
from cada_jax.config import CONFIG_FILE, FREE_KEYS, to_json
from cada_jax.config.comparison import differing_keys
from cada_jax.config.json_file import read_config
from cada_jax.config.kinds import spelled
from cada_jax.config.legacy import upgraded
from tools.ablation.rows import Row, config_of

# What all rows share; its presence marks a folder that this tool may write into.
BASE_FILE = "ablation_config.json"
NEEDED = ("results.json", "queries.jsonl")  # of a run that is done
# These decide no numbers of a run, but which numbers it has.
_SCORED = ("eval.before", "eval.image_to_text_top_k", "eval.save_queries", "eval.split")
FREE = tuple(key for key in FREE_KEYS if key not in _SCORED)


@dataclasses.dataclass(frozen=True)
class Run:
    """One row under one seed.

    Attributes:
      row: what is changed.
      seed: of the run.
      config: the whole configuration.
      folder: its workdir. Rows of equal configurations share it.
    """

    row: Row
    seed: int
    config: ConfigDict
    folder: pathlib.Path

    @property
    def done(self) -> bool:
        """Whether it has been trained and scored."""
        return all((self.folder / name).is_file() for name in NEEDED)

    @property
    def log(self) -> pathlib.Path:
        """What its process said."""
        return self.folder.with_name(f"{self.folder.name}.log")


def plan(base: ConfigDict, rows: Sequence[Row], seeds: int, out: pathlib.Path) -> list[Run]:
    """Every run, the seeds of a row after each other.

    Args:
      base: what all rows share.
      rows: the chosen ones.
      seeds: how many, from 0.
      out: the folder of all runs.

    Raises:
      UsageError: a row does not fit the configuration.
    """
    owners: dict[str, str] = {}  # configuration -> name of the first row that has it
    runs = []
    for row in rows:
        for seed in range(seeds):
            config = config_of(base, row, seed)
            owner = owners.setdefault(to_json(config), row.name)
            runs.append(Run(row, seed, config, out / "runs" / f"{owner}-seed{seed}"))
    return runs


def claim(out: pathlib.Path, base: ConfigDict, runs: Sequence[Run]) -> None:
    """Makes the folder of an ablation, or checks that what it holds belongs to this one.

    Raises:
      UsageError: it holds other files, or runs of another configuration; names the difference.
    """
    if out.is_dir() and any(out.iterdir()):
        if not (out / BASE_FILE).is_file():
            raise UsageError(
                f"--out={out}: expected a new or empty folder, or that of an ablation, but it "
                f"holds {contents(out)}. Nothing was touched: choose another folder."
            )
        _check_same(out / BASE_FILE, base, f"--out={out}")
    for run in runs:
        if (run.folder / CONFIG_FILE).is_file():
            _check_same(run.folder / CONFIG_FILE, run.config, f"--out={out}: {run.folder.name}")
    if not (out / BASE_FILE).is_file():
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / BASE_FILE, to_json(base))


def _check_same(path: pathlib.Path, config: ConfigDict, what: str) -> None:
    different = differing_keys(config, upgraded(read_config(path)), FREE)
    if different:
        listed = ", ".join(
            f"config.{key} is {json.dumps(theirs)} there and {json.dumps(ours)} now"
            for key, (ours, theirs) in different.items()
        )
        raise UsageError(
            f"{what} was begun with another configuration: {listed}. Nothing was touched: give "
            "the values from there, or another --out."
        )


def command(run: Run, config_argument: str, changes: dict) -> list[str]:
    """What starts or continues a run, in a process of its own.

    Args:
      run: which one.
      config_argument: as for `cada_jax.main`.
      changes: field -> value, for all rows; those of the row come on top.
    """
    values = {**changes, **run.row.changes, "seed": run.seed}
    fields = [f"--config.{name}={spelled(value)}" for name, value in values.items()]
    program = [sys.executable, "-m", "cada_jax.main", f"--config={config_argument}"]
    return [*program, f"--workdir={run.folder}", *fields]


def run_process(argv: Sequence[str], log: pathlib.Path, tell: Callable[[str], None]) -> int:
    """Runs a command, adds what it says to its log, and returns its exit code.

    However this ends, the process has ended too: it gets SIGTERM, and saves its state.

    Args:
      argv: the command.
      log: text file; lines are added.
      tell: gets every line of the command's stderr.
    """
    with log.open("a", encoding="utf-8") as file:
        options = dict(stdout=file, stderr=subprocess.PIPE, text=True, errors="replace")
        with subprocess.Popen(argv, **options) as process:
            assert process.stderr is not None  # it is a pipe
            try:
                for line in process.stderr:
                    file.write(line)
                    file.flush()
                    tell(line.rstrip())
                return process.wait()
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    file.writelines(process.stderr)  # what it says of its end
                    process.wait()


class Console:
    """What is said while runs go on: a line for each, and on a terminal one of its progress.

    Args:
      total: runs there are, without those done before.
      stream: where to write.
    """

    def __init__(self, total: int, stream: TextIO):
        self._total, self._stream = total, stream
        self._seconds: list[float] = []
        self._name = ""

    @contextlib.contextmanager
    def run(self, name: str) -> Iterator[Callable[[str], None]]:
        """Says that a run begins; yields what takes its lines."""
        self._name = name
        start = time.monotonic()
        number = f"[{len(self._seconds) + 1}/{self._total}]"
        self._say(f"{number} {name}{self._left()}")
        yield self._status
        self._seconds.append(time.monotonic() - start)

    def _left(self) -> str:
        if not self._seconds:
            return ""
        mean = sum(self._seconds) / len(self._seconds)
        return f"  about {duration(mean * (self._total - len(self._seconds)))} left in all"

    def _status(self, line: str) -> None:
        if self._stream.isatty() and line:
            self._stream.write(f"\r\x1b[K{self._name}: {line[:100]}")
            self._stream.flush()

    def _say(self, text: str) -> None:
        clear = "\r\x1b[K" if self._stream.isatty() else ""
        self._stream.write(f"{clear}{text}\n")
        self._stream.flush()

    def end(self, text: str) -> None:
        """Says what became of the run, in the place of its progress."""
        self._say(f"    {self._name}: {text}")


def run_all(
    runs: Sequence[Run],
    start: Callable[[Run, Callable[[str], None]], int],
    stream: TextIO,
) -> list[Run]:
    """Runs what is not done yet; returns the runs that diverged.

    Args:
      runs: from `plan`.
      start: (run, what takes its lines) -> exit code, as of `cada_jax.main`.
      stream: where to say how it goes.

    Raises:
      UsageError: a run could not start or was stopped; the next one would end so too.
    """
    waiting = list({run.folder: run for run in runs if not run.done}.values())
    distinct = len({run.folder for run in runs})
    stream.write(f"{distinct} runs, {distinct - len(waiting)} of them done before\n")
    console, diverged = Console(len(waiting), stream), []
    for run in waiting:
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        with console.run(run.folder.name) as tell:
            code = start(run, tell)
        if code == 1:
            console.end(f"failed, see {run.log}")
            diverged.append(run)
        elif code or not run.done:
            raise UsageError(
                f"{run.folder.name} ended with exit code {code}: see the last lines of {run.log}. "
                "The same command continues."
            )
        else:
            results = json.loads((run.folder / "results.json").read_text(encoding="utf-8"))
            figures = (f"{stage} R1 {results[stage]['R1']:.2f}" for stage in ("global", "reranked"))
            console.end(", ".join(figures))
    return diverged
