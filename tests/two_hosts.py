"""One of two processes that `tests.distributed.test_processes` starts: PORT INDEX FOLDER [full]."""

import json
import os
import pathlib
import signal
import sys
import time

from cada_jax.common.errors import LostProcessError, StoppedError, UsageError
from cada_jax.data import batches as batches_lib
from cada_jax.distributed import processes
from cada_jax.training import run, train_step
from tests.cheap_run import make_it_cheap, small_state, use_noise
from tests.conftest import tiny_config_of_runs


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


def with_a_signal(index: int, signum: int):
    """Batches; after the fifth, process 1 gets a signal and further ones take their time.

    JAX looks for a signal once a second: 25 cheap steps would be over by then.
    """
    batches = batches_lib.train_batches

    def signalling(*arguments):
        for number, batch in enumerate(batches(*arguments)):
            if number == 5 and index == 1:
                os.kill(os.getpid(), signum)
            if number > 5:
                time.sleep(0.5)
            yield batch

    return signalling


def main() -> None:
    """Every scenario in turn, the last of which process 1 does not survive."""
    port, index, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
    processes.connect(f"127.0.0.1:{port}", 2, index)
    config = tiny_config_of_runs()
    differ(config, index)
    use_noise(config, folder)
    if sys.argv[4:] == ["full"]:
        results = run.train(config, folder / "run")
        tell(results={k: results[k] for k in ("global", "reranked", "step", "num_gallery")})
        again = run.evaluate_only(config, folder / "run")
        tell(again={k: again[k] for k in ("global", "reranked")})
    be_stopped(config, index, folder)


def be_stopped(config, index: int, folder: pathlib.Path) -> None:
    """Whole runs with a cheap step: undisturbed, told to end and continued, and killed."""
    batches = batches_lib.train_batches
    make_it_cheap()
    train_step.init_state = small_state
    with config.unlocked():
        config.train.epochs, config.train.eval_every = 10, 5
    # First: JAX remembers the step at which a process was told to end.
    run.train(config, folder / "not_stopped")
    batches_lib.train_batches = with_a_signal(index, signal.SIGTERM)
    try:
        run.train(config, folder / "stopped")
    except StoppedError as e:
        tell(stopped=str(e))
    batches_lib.train_batches = batches
    run.train(config, folder / "stopped")
    batches_lib.train_batches = with_a_signal(index, signal.SIGKILL)
    try:
        with processes.explained():
            run.train(config, folder / "lost")
    except LostProcessError as e:
        tell(lost=str(e))
        processes.leave(1)


if __name__ == "__main__":
    main()
