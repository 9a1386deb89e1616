"""One of two processes that `tests.distributed.test_processes` starts: PORT INDEX FOLDER [full]."""

import functools
import json
import os
import pathlib
import signal
import sys
import time

from cada_jax.common.errors import LostProcessError, StoppedError, UsageError
from cada_jax.distributed import processes
from cada_jax.evaluation.run import evaluate
from cada_jax.training.run import train
from tests.cheap_run import CHEAP
from tests.conftest import tiny_config_of_runs
from tests.noise import NoiseData


def tell(**values) -> None:
    """One JSON line on stdout."""
    print(json.dumps(values), flush=True)


def differ(config, index: int) -> None:
    """A configuration, then code, that only process 1 has."""
    mine = config.copy_and_resolve_references()
    if index == 1:
        mine.train.batch_size = 16
        mine.optimizer.b1 = 0.8
    try:
        processes.check_same_program(mine)
    except UsageError as e:
        tell(config=str(e))
    digest = processes.code_digest
    processes.code_digest = lambda: f"{digest()}{index}"
    try:
        processes.check_same_program(config)
    except UsageError as e:
        tell(code=str(e))
    processes.code_digest = digest
    processes.check_same_program(config)


def signal_process_one(index: int, signum: int):
    """During the fifth batch, process 1 gets a signal and further batches take their time.

    JAX looks for a signal once a second: 25 cheap steps would be over by then.
    """

    def during(number):
        if number == 5 and index == 1:
            os.kill(os.getpid(), signum)
        if number > 5:
            time.sleep(0.5)

    return during


def main() -> None:
    """Every scenario in turn, the last of which process 1 does not survive."""
    port, index, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
    processes.connect(f"127.0.0.1:{port}", 2, index)
    config = tiny_config_of_runs()
    differ(config, index)
    data = NoiseData(config, folder)
    if sys.argv[4:] == ["full"]:
        results = train(config, folder / "run", data=data)
        tell(
            results={
                k: results[k] for k in ("global", "reranked", "step", "num_gallery", "baseline")
            }
        )
        again = evaluate(config, folder / "run", data=data)
        tell(again={k: again[k] for k in ("global", "reranked")})
    be_stopped(config, index, folder, data)


def be_stopped(config, index: int, folder: pathlib.Path, data: NoiseData) -> None:
    """Whole runs with a cheap step: undisturbed, told to end and continued, and killed."""
    with config.unlocked():
        config.train.epochs, config.train.eval_every = 10, 5
    run = functools.partial(train, config, data=data, **CHEAP)
    # First: JAX remembers the step at which a process was told to end.
    run(folder / "not_stopped")
    data.during = signal_process_one(index, signal.SIGTERM)
    try:
        run(folder / "stopped")
    except StoppedError as e:
        tell(stopped=str(e))
    data.during = None
    run(folder / "stopped")
    data.during = signal_process_one(index, signal.SIGKILL)
    try:
        with processes.explained():
            run(folder / "lost")
    except LostProcessError as e:
        tell(lost=str(e))
        processes.leave(1)


if __name__ == "__main__":
    main()
