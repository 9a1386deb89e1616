"""Kills a run at random moments and compares what it ends with, bit by bit.

    python tools/check_resume.py --config=configs/synthetic.py:tiny --workdir=/tmp/resume --kills=20

One run is left alone. Another gets SIGKILL again and again, every third time while it writes a
checkpoint, and the same command continues it. The exit status is 1 unless both end with the same
SHA-256 of the parameters, as `tools/inspect_checkpoint.py` prints it. FIELD=VALUE after --set
changes the configuration of both: train.checkpoint_every=5 for many checkpoints in a short run.
"""

import argparse
import dataclasses
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import sys
import time

from cada_jax import inspection
from cada_jax.errors import UsageError

CONTEXT = multiprocessing.get_context("forkserver")


def _run(argument: str, changes: dict, workdir: str, log: str) -> None:
    """A whole run, in a process of its own."""
    with open(log, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from cada_jax import train
    from config_file import load_config

    config = load_config(argument)
    config.update_from_flattened_dict(changes)
    train.train(config.lock(), workdir)


@dataclasses.dataclass(frozen=True)
class Kill:
    """One kill: seconds after the start, newest whole checkpoint then, whether one was written."""

    after: float
    step: int | None
    saving: bool


def _saving(folder: pathlib.Path) -> bool:
    """Whether a checkpoint is being written: Orbax writes under another name."""
    return any(not p.name.isdigit() for p in folder.glob("*"))


def _newest(folder: pathlib.Path) -> int | None:
    return max((int(p.name) for p in folder.glob("*") if p.name.isdigit()), default=None)


def _start(arguments: tuple, workdir: pathlib.Path) -> multiprocessing.Process:
    process = CONTEXT.Process(target=_run, args=(*arguments, str(workdir), f"{workdir}.log"))
    process.start()
    return process


def kill_once(
    arguments: tuple, workdir: pathlib.Path, saves: int, wait: float, while_saving: bool
) -> Kill:
    """Starts or continues the run and kills it.

    Args:
      arguments: configuration file, changed fields.
      workdir: of the run.
      saves: new checkpoints to let it finish first.
      wait: seconds after the last of them.
      while_saving: then wait until it writes the next one.

    Raises:
      UsageError: the run ended before it could be killed.
    """
    folder, start = workdir / "checkpoints", time.monotonic()
    newest, process = _newest(folder), _start(arguments, workdir)
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
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return Kill(time.monotonic() - start, _newest(folder), saving)


def compare(
    argument: str, changes: dict, root: pathlib.Path, kills: int, seed: int
) -> tuple[str, str, list[Kill]]:
    """Digests of the undisturbed and of the killed run, and the kills.

    Args:
      argument: configuration file, as for `load_config`.
      changes: its changed fields, by dotted name.
      root: folder for both runs, emptied first.
      kills: how often.
      seed: of the moments.
    """
    CONTEXT.set_forkserver_preload(["cada_jax.train"])  # imported once, not for every start
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    arguments, moments = (argument, changes), random.Random(seed)
    straight, killed = root / "straight", root / "killed"
    _finish(arguments, straight)
    done = []
    for number in range(kills):
        saves, wait = moments.randint(1, 2), moments.uniform(0.0, 0.2)
        done.append(kill_once(arguments, killed, saves, wait, while_saving=number % 3 == 0))
        print(f"kill {number + 1}: {done[-1]}", file=sys.stderr, flush=True)
    _finish(arguments, killed)
    digests = (inspection.digest(inspection.read(run).params) for run in (straight, killed))
    return *digests, done


def _finish(arguments: tuple, workdir: pathlib.Path) -> None:
    process = _start(arguments, workdir)
    process.join()
    if process.exitcode:
        raise UsageError(f"the run in {workdir} failed; see {workdir}.log")


def main() -> int:
    """Parses the flags, kills and compares; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="synthetic:tiny", help="as for cada_jax.main")
    parser.add_argument("--workdir", required=True, help="folder for both runs, emptied first")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    flags = parser.parse_args()
    try:
        from compiled_step import parse_changes
        from config_file import load_config

        changes = parse_changes(load_config(flags.config), flags.set)
        root = pathlib.Path(flags.workdir).absolute()
        straight, killed, kills = compare(flags.config, changes, root, flags.kills, flags.seed)
    except UsageError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    saving = sum(kill.saving for kill in kills)
    print(f"{len(kills)} kills, {saving} of them while a checkpoint was written")
    print(f"left alone  sha256 {straight}\nkilled      sha256 {killed}")
    return 0 if straight == killed else 1


if __name__ == "__main__":
    sys.exit(main())
