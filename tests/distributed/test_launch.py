"""Several processes started from the command line are one run, on the real data path."""

import json
import os
import pathlib
import socket
import subprocess

import jax
import numpy as np
import pytest

from cada_jax.checkpoints import inspect
from cada_jax.common import pytrees
from tests.conftest import FAST_COMPILE, REPOSITORY
from tests.test_main import COMMAND, TINY

STEPS = 18


class Launcher:
    """Runs `cada_jax.main` as one or several processes, each with one device."""

    def __init__(self, folder: pathlib.Path):
        self._config = folder / "tiny.py"
        changes = "c.train.update(batch_size=16, checkpoint_every=4)"
        self._config.write_text(TINY.replace("    return c", f"    {changes}\n    return c"))
        self._environment = os.environ | {
            "CADA_DATA_DIR": str(folder / "data"),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count=1 {FAST_COMPILE}",
        }

    def __call__(self, workdir, *processes: tuple[list[str], dict[str, str]]) -> list[str]:
        """The stderr of each process, given as (flags, environment)."""
        started = [
            subprocess.Popen(
                [*COMMAND, f"--config={self._config}", f"--workdir={workdir}", *flags],
                cwd=REPOSITORY,
                env=self._environment | environment,
                stderr=subprocess.PIPE,
                text=True,
            )
            for flags, environment in processes
        ]
        try:
            said = [process.communicate(timeout=900)[1] for process in started]
        finally:
            for process in started:
                process.kill()
        assert [process.returncode for process in started] == [0] * len(started), "\n".join(said)
        return said


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def by_flags(*flags: str) -> list:
    """Two processes that are told of each other."""
    joined = [f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", *flags]
    return [([*joined, f"--process_id={index}"], {}) for index in range(2)]


def by_slurm(*flags: str) -> list:
    """Two tasks as `srun` starts them, on a node of that name."""
    step = {"SLURM_JOB_ID": "4242", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    step |= {"JAX_COORDINATOR_PORT": str(free_port())}
    tasks = [{"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2)]
    return [(["--distributed", *flags], step | task) for task in tasks]


def results_of(workdir: pathlib.Path) -> dict:
    """What was scored, by path: {"reranked/R1": 70.0, ...}; not the time it took."""
    results = json.loads((workdir / "results.json").read_text())
    del results["seconds"]
    paths = jax.tree.leaves_with_path(results, is_leaf=lambda x: x is None)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in paths}


@pytest.mark.slow
def test_processes_joined_by_flags_or_by_slurm_give_the_numbers_of_one(tmp_path):
    launch = Launcher(tmp_path)
    launch(tmp_path / "one", ([], {}))
    said = launch(tmp_path / "two", *by_flags())
    assert f"step {STEPS}/{STEPS}" in said[0] and "epoch" not in said[1]  # one of them speaks
    one, two = (inspect.read(tmp_path / name) for name in ("one", "two"))
    assert one.step == two.step == STEPS
    theirs = pytrees.flat_arrays(two.params)
    for name, ours in pytrees.flat_arrays(one.params).items():
        # The gradient of a key bias is zero in theory, and Adam makes steps of its rounding.
        bound = 1e-3 if name.endswith("key/bias") else 1e-6
        np.testing.assert_allclose(theirs[name], ours, rtol=1e-5, atol=bound, err_msg=name)
    expected = results_of(tmp_path / "one")
    assert results_of(tmp_path / "two") == pytest.approx(expected)
    launch(tmp_path / "two", *by_slurm("--mode=eval"))
    assert results_of(tmp_path / "two") == pytest.approx(expected)
