"""Two processes are one program: the same numbers, one stop, and no one left waiting."""

import json
import os
import socket
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest

from cada_jax.checkpoints import inspect
from cada_jax.common import pytrees
from cada_jax.common.errors import LostProcessError, UsageError
from cada_jax.distributed import mesh as mesh_lib
from cada_jax.distributed import processes as processes_lib
from cada_jax.training.run import train
from tests.conftest import FAST_COMPILE, REPOSITORY, tiny_config_of_runs
from tests.noise import NoiseData


@pytest.fixture(scope="module")
def pair(request, tmp_path_factory):
    """What both processes of `tests/two_hosts.py` said, their exit codes and their folder."""
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    slow = any(item.get_closest_marker("slow") for item in request.session.items)
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=1 {FAST_COMPILE}",
        "JAX_PLATFORMS": "cpu",
    }
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.two_hosts", str(port), str(index), str(folder)),
                *(["full"] if slow else []),
            ],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=(folder / f"{index}.log").open("w"),
            text=True,
        )
        for index in range(2)
    ]
    died = None
    try:
        said = [processes[1].communicate(timeout=1800)[0]]
        died = time.monotonic()
        said.insert(0, processes[0].communicate(timeout=60)[0])
    finally:
        for process in processes:
            process.kill()
    waited = time.monotonic() - died
    told = [[json.loads(line) for line in lines.splitlines() if line[:1] == "{"] for lines in said]
    told = [{key: value for line in lines for key, value in line.items()} for lines in told]
    logs = [(folder / f"{index}.log").read_text() for index in range(2)]
    codes = [process.returncode for process in processes]
    return types.SimpleNamespace(told=told, codes=codes, waited=waited, folder=folder, logs=logs)


def test_hosts_of_different_configuration_or_code_are_told(pair):
    for told in pair.told:
        assert "config.train.batch_size: 8 on process 0, 16 on process 1" in told["config"]
        assert "config.optimizer.b1: 0.9 on process 0, 0.8 on process 1" in told["config"]
        assert told["code"].startswith("Processes 1 run other code than process 0")


@pytest.mark.slow
def test_two_processes_train_and_score_as_one_does(pair, tmp_path):
    config = tiny_config_of_runs()
    data = NoiseData(config, tmp_path)
    results = train(config, tmp_path / "run", data=data, devices=jax.devices()[:2])
    one, two = (inspect.read(folder / "run") for folder in (tmp_path, pair.folder))
    assert one.step == two.step == 6
    theirs = pytrees.flat_arrays(two.params)
    for name, ours in pytrees.flat_arrays(one.params).items():
        # Adam turns the rounding of a gradient near zero into a whole step of the learning rate.
        np.testing.assert_allclose(theirs[name], ours, rtol=1e-4, atol=2e-5, err_msg=name)
    for told in pair.told:
        for stage in ("global", "reranked"):
            assert told["results"][stage] == told["again"][stage]
            assert told["results"][stage] == pytest.approx(results[stage], abs=1e-6)
            start = told["results"]["baseline"][stage]
            assert start == pytest.approx(results["baseline"][stage], abs=1e-6)
        assert told["results"]["num_gallery"] == results["num_gallery"]
    written = json.loads((pair.folder / "run" / "results.json").read_text())
    assert written["reranked"] == pair.told[0]["results"]["reranked"]
    assert (pair.folder / "run" / "retrieval.png").stat().st_size > 0
    told = [[line for line in log.splitlines() if line.startswith("step ")] for log in pair.logs]
    assert told[0] and not told[1]  # one of them speaks


def test_one_process_is_told_to_end_and_both_stop_at_the_same_step_and_continue(pair):
    first, second = (told["stopped"] for told in pair.told)
    assert first == second and first.startswith("Stopped by SIGTERM after step")
    stopped, straight = (inspect.read(pair.folder / n) for n in ("stopped", "not_stopped"))
    assert stopped.step == straight.step == 30
    assert inspect.digest(stopped.params) == inspect.digest(straight.params)


def test_a_process_that_dies_stops_the_other_with_the_reason(pair):
    assert pair.codes[1] == -9 and pair.codes[0] in (1, -6)
    assert pair.waited < 60
    if pair.codes[0] == 1:  # or JAX aborted it, with its own words
        assert pair.told[0]["lost"].startswith("Process 0 of 2 lost another one: ")
    else:
        assert "another task died" in pair.logs[0] or "heartbeat" in pair.logs[0]
    assert inspect.read(pair.folder / "not_stopped").step == 30


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (("10.0.0.1:1234", None, 0), "--num_processes missing"),
        ((None, 2, None), "--coordinator and --process_id missing"),
        (("10.0.0.1", 2, 0), "expected HOST:PORT"),
        (("10.0.0.1:1234", 2, 2), "a process_id from 0 to num_processes - 1"),
    ],
)
def test_flags_that_do_not_join_processes_are_refused(given, part):
    with pytest.raises(UsageError, match=part):
        processes_lib.connect(*given)


def test_only_a_lost_connection_is_called_that(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(LostProcessError, match="lost another one: Gloo all-reduce failed: .*peer"):
        with processes_lib.explained():
            raise jax.errors.JaxRuntimeError("Gloo all-reduce failed: Connection closed by peer")
    with pytest.raises(jax.errors.JaxRuntimeError, match="Out of memory"):
        with processes_lib.explained():
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")


def _mesh(shape, hosts_of_devices):
    devices = [types.SimpleNamespace(process_index=host) for host in hosts_of_devices]
    devices = np.array(devices, object).reshape(shape)
    return types.SimpleNamespace(
        devices=devices, shape=dict(zip(mesh_lib.AXES, shape, strict=True))
    )


@pytest.mark.parametrize(
    ("shape", "order", "shares"),
    [
        ((8, 1, 1), [0, 0, 0, 0, 1, 1, 1, 1], [(0, 2), (1, 2)]),
        ((2, 2, 2), [0, 0, 0, 0, 1, 1, 1, 1], [(0, 2), (1, 2)]),
        ((1, 1, 8), [0, 0, 0, 0, 1, 1, 1, 1], [(0, 1), (0, 1)]),
        ((2, 1, 4), [1, 1, 1, 1, 0, 0, 0, 0], [(1, 2), (0, 2)]),
    ],
)
def test_every_host_provides_the_rows_its_devices_hold(shape, order, shares, monkeypatch):
    for host, share in enumerate(shares):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        assert mesh_lib.process_batch_slice(_mesh(shape, order)) == share


def test_rows_that_do_not_follow_each_other_are_noticed():
    assert mesh_lib._host_blocks(_mesh((8, 1, 1), [0, 1, 0, 1, 0, 1, 0, 1])) is None
    assert mesh_lib._host_blocks(_mesh((4, 1, 1), [0, 0, 0, 1])) is None


def test_only_the_data_axis_crosses_slices():
    with pytest.raises(ValueError, match=r"config\.mesh\.data = 3 is not a multiple of the 2"):
        mesh_lib._over_slices([3, 1, 1], 2, [])
