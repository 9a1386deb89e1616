"""The runs of an ablation: which there are, which are done, and the command of each."""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import sys
from collections.abc import Sequence

from ml_collections import ConfigDict

from cada_jax.checkpoints import workdir
from cada_jax.common.errors import UsageError
from cada_jax.common.files import contents, write_text
from cada_jax.config import CONFIG_FILE, FREE_KEYS, differing_keys, read_config, to_json
from cada_jax.config.kinds import spelled
from tools.ablation.rows import ROWS, Row, config_of

# What all rows share; its presence marks a folder that this tool may write into.
BASE_FILE = "ablation_config.json"
NEEDED = ("results.json", "queries.jsonl")  # of a run that is done
# These decide no numbers of a run, but which numbers it has.
_SCORED = ("eval.baseline", "eval.image_to_text_top_k", "eval.save_queries", "eval.split")
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
    """Every run, all rows of a seed before the next seed: a table that was stopped has all rows.

    Args:
      base: what all rows share.
      rows: the chosen ones.
      seeds: how many, from 0.
      out: the folder of all runs.

    Raises:
      UsageError: a row does not fit the configuration.
    """
    runs = []
    for seed in range(seeds):
        owners = _owners(base, seed)
        for row in rows:
            config = config_of(base, row, seed)
            owner = owners.get(to_json(config), row.name)
            runs.append(Run(row, seed, config, out / "runs" / f"{owner}-seed{seed}"))
    return runs


def _owners(base: ConfigDict, seed: int) -> dict[str, str]:
    """Configuration -> the first row of all that has it, whose name the folder bears.

    Of all rows, not of the chosen ones: a run keeps its folder when other rows are chosen.
    """
    owners: dict[str, str] = {}
    for row in ROWS:
        with contextlib.suppress(UsageError):  # a row that nobody chose need not fit
            owners.setdefault(to_json(config_of(base, row, seed)), row.name)
    return owners


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
    different = differing_keys(config, read_config(path), FREE)
    if different:
        listed = ", ".join(
            f"config.{key} is {json.dumps(theirs)} there and {json.dumps(ours)} now"
            for key, (ours, theirs) in different.items()
        )
        raise UsageError(
            f"{what} was begun with another configuration: {listed}. Nothing was touched: give "
            "the values from there, or another --out."
        )


def train_alike(run: Run, other: Run) -> bool:
    """Whether two runs end with the same parameters and differ in nothing but how they are scored.

    With `eval.select=best` the score chooses the parameters, so that none are alike.
    """
    different = differing_keys(run.config, other.config, FREE)
    last = run.config.eval.select == other.config.eval.select == "last"
    return last and all(name.startswith("eval.") for name in different)


def copy_trained(run: Run, runs: Sequence[Run]) -> None:
    """Gives a run what another of `runs` has trained, where that is the same and is done.

    A run that was begun already is left as it is.
    """
    if run.folder.exists():
        return
    trained = next((other for other in runs if other.done and train_alike(run, other)), None)
    if trained is None:
        return
    unfinished = run.folder.with_name(f"{run.folder.name}.copying")
    shutil.rmtree(unfinished, ignore_errors=True)
    left_out = shutil.ignore_patterns(*NEEDED, workdir.LOCK_FILE)
    shutil.copytree(trained.folder, unfinished, ignore=left_out)
    write_text(unfinished / CONFIG_FILE, to_json(run.config))
    unfinished.rename(run.folder)


def command(run: Run, config_argument: str, changes: dict) -> list[str]:
    """What starts or continues a run, in a process of its own; one that is trained is only scored.

    Args:
      run: which one.
      config_argument: as for `cada_jax.main`.
      changes: field -> value, for all rows; those of the row come on top.
    """
    values = {**changes, **run.row.changes, "seed": run.seed}
    fields = [f"--config.{name}={spelled(value)}" for name, value in values.items()]
    program = [sys.executable, "-m", "cada_jax.main", f"--config={config_argument}"]
    trained = (run.folder / workdir.MODEL).is_dir()  # exported when training is over
    mode = ["--mode=eval"] if trained else []
    return [*program, f"--workdir={run.folder}", *mode, *fields]
