"""Kills a run at random moments and compares what it ends with, bit by bit.

    python -m tools.check_resume --config=configs/synthetic.py:tiny --workdir=/tmp/resume --kills=20

One run is left alone. Another gets SIGKILL again and again, every third time while it writes a
checkpoint, then SIGTERM --terms times, and the same command continues it. The exit status is 1
unless both end with the same SHA-256 of the parameters, of the last step and of the best, as
`python -m cada_jax inspect` prints it, and every SIGTERM left a checkpoint and exit code 143.
FIELD=VALUE after --set changes the configuration of both: train.checkpoint_every=5 for many
checkpoints in a short run.
"""

import dataclasses
import functools
import multiprocessing
import os
import pathlib
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from cada_jax.common.errors import StoppedError, UsageError
from cada_jax.config import load_config
from tools import config_file
from tools.arguments import Parser, command, folder_to_make

CONTEXT = multiprocessing.get_context("forkserver")
Run = Callable[[str], Any]  # trains in the folder it is given; must be picklable


def train_from_config(argument: str, changes: dict, workdir: str) -> None:
    """The run of a configuration file with changed fields, by dotted name."""
    from cada_jax.training import run as run_lib

    config = load_config(argument)
    config.update_from_flattened_dict(changes)
    run_lib.train(config.lock(), workdir)


def _run(run: Run, workdir: str, log: str) -> None:
    """A whole run, in a process of its own; it ends with the exit codes of `cada_jax.main`."""
    with open(log, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        run(workdir)
    except StoppedError as e:
        print(e, flush=True)
        sys.exit(128 + e.signum)


@dataclasses.dataclass(frozen=True)
class Kill:
    """One kill: seconds after the start, newest whole checkpoint then, whether one was written.

    exit_code is that of the process, negative for the signal that ended it.
    """

    after: float
    step: int | None
    saving: bool
    exit_code: int | None

    @property
    def saved(self) -> bool:
        """Whether it saved and ended as `cada_jax.main` documents for SIGTERM."""
        return self.exit_code == 128 + signal.SIGTERM and self.step is not None


def _saving(folder: pathlib.Path) -> bool:
    """Whether a checkpoint is being written: Orbax writes under another name."""
    return any(not p.name.isdigit() for p in folder.glob("*"))


def _newest(folder: pathlib.Path) -> int | None:
    return max((int(p.name) for p in folder.glob("*") if p.name.isdigit()), default=None)


def _start(run: Run, workdir: pathlib.Path) -> multiprocessing.process.BaseProcess:
    process = CONTEXT.Process(target=_run, args=(run, str(workdir), f"{workdir}.log"))
    process.start()
    return process


def kill_once(
    run: Run,
    workdir: pathlib.Path,
    saves: int,
    wait: float,
    while_saving: bool,
    signum: int = signal.SIGKILL,
) -> Kill:
    """Starts or continues the run and sends it a signal.

    Args:
      run: what to run.
      workdir: where.
      saves: new checkpoints to let it finish first.
      wait: seconds after the last of them.
      while_saving: then wait until it writes the next one.
      signum: the signal.

    Raises:
      UsageError: the run ended before it could be killed.
    """
    folder, start = workdir / "checkpoints", time.monotonic()
    newest, process = _newest(folder), _start(run, workdir)
    due = None
    while process.is_alive():
        if due is None and _newest(folder) != newest:
            newest, saves = _newest(folder), saves - 1
            due = time.monotonic() + wait if saves == 0 else None
        if due is not None and time.monotonic() >= due and (not while_saving or _saving(folder)):
            break
        time.sleep(0.001)
    else:
        raise UsageError(
            f"the run ended before it was killed; see {workdir}.log: give it more steps"
        )
    saving = _saving(folder)
    assert process.pid is not None  # it was started
    os.kill(process.pid, signum)
    process.join()
    return Kill(time.monotonic() - start, _newest(folder), saving, process.exitcode)


def compare(
    alone: Run, run: Run, root: pathlib.Path, kills: int, terms: int, seed: int
) -> tuple[list[str], list[str], list[Kill]]:
    """Digests of the undisturbed and of the killed run, and the kills.

    Args:
      alone: what to run undisturbed.
      run: what to kill; the same but for how often it saves.
      root: folder for both runs, "straight" and "killed"; neither is there yet.
      kills: how often it gets SIGKILL.
      terms: how often SIGTERM after that.
      seed: of the moments.

    Returns:
      (digests, digests, kills); digests are of the last parameters and, if any, of the best.

    Raises:
      UsageError: a run failed or ended before it was killed.
    """
    root.mkdir(parents=True, exist_ok=True)
    moments = random.Random(seed)
    straight, killed = (root / name for name in ("straight", "killed"))
    _finish(alone, straight)
    done = []
    for number in range(kills + terms):
        signum = signal.SIGKILL if number < kills else signal.SIGTERM
        saves, wait = moments.randint(1, 2), moments.uniform(0.0, 0.2)
        done.append(kill_once(run, killed, saves, wait, number % 3 == 0, signum))
        print(f"kill {number + 1}: {done[-1]}", file=sys.stderr, flush=True)
    _finish(run, killed)
    return _digests(straight), _digests(killed), done


def _finish(run: Run, workdir: pathlib.Path) -> None:
    process = _start(run, workdir)
    process.join()
    if process.exitcode:
        raise UsageError(f"the run in {workdir} failed; see {workdir}.log")


def _digests(workdir: pathlib.Path) -> list[str]:
    from cada_jax.checkpoints import inspect  # imports JAX

    best = _newest(workdir / "best")
    paths = [workdir] if best is None else [workdir, workdir / "best" / str(best)]
    return [inspect.digest(inspect.read(path).params) for path in paths]


def check(argv: Sequence[str] | None) -> int:
    """Kills and compares as the flags say; returns the exit code."""
    parser = Parser("tools.check_resume", __doc__)
    add = parser.add_argument
    add("--config", default="synthetic:tiny", help="as for cada_jax.main")
    add("--workdir", required=True, type=folder_to_make, help="folder to make, for both runs")
    add("--kills", type=int, default=20)
    add("--terms", type=int, default=0, help="SIGTERMs after the kills")
    add("--seed", type=int, default=0, help="of the moments")
    add("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    flags = parser.flags(argv)
    config_file.read_config(flags.config, flags.set)  # refused before a folder is touched
    changes = config_file.parse_changes(flags.set)
    CONTEXT.set_forkserver_preload(["cada_jax.training.run"])  # imported once, not at every start
    run = functools.partial(train_from_config, flags.config, changes)
    found = compare(run, run, flags.workdir, flags.kills, flags.terms, flags.seed)
    straight, killed, done = found
    kills, terms = done[: flags.kills], done[flags.kills :]
    saving = sum(kill.saving for kill in kills)
    print(f"{len(kills)} kills, {saving} of them while a checkpoint was written")
    if terms:
        print(f"{len(terms)} SIGTERMs, {sum(term.saved for term in terms)} saved and exited 143")
    for what, one, other in zip(("last", "best"), straight, killed, strict=False):
        print(f"{what}, left alone  sha256 {one}\n{what}, killed      sha256 {other}")
    return 0 if straight == killed and all(term.saved for term in terms) else 1


main = command(check)

if __name__ == "__main__":
    sys.exit(main())
