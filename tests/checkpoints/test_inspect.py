"""A checkpoint's digest tells its values and nothing about the devices that wrote it."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.checkpoints import inspect, model, run, workdir
from cada_jax.common import pytrees
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.distributed import mesh as mesh_lib
from cada_jax.distributed import partitioning
from tests.conftest import REPOSITORY


def _state(value: float = 0.0):
    kernel = jnp.arange(64.0).reshape(8, 8) + value
    params = {"query": {"kernel": kernel, "bias": jnp.ones((3,), jnp.bfloat16)}}
    return {"step": jnp.zeros((), jnp.int32), "params": params, "opt_state": (kernel, {})}


def _save(folder, state, config, steps=(1,)):
    with workdir.working_in(folder, config) as root:
        workdir.claim(root, config)
    with run.Checkpoints(folder) as saved:
        for step in steps:
            saved.save(step, state)
        saved.save_best(steps[-1], state["params"], {"value": 1.0})


def test_a_state_moves_between_meshes_bit_by_bit(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(partitioning, "MIN_FSDP_SIZE", 1)
    expected = inspect.digest(_state()["params"])
    before = None
    for sizes in ((1, 1, 1), (8, 1, 1), (2, 4, 1), (2, 2, 2), (1, 1, 1)):
        tiny_config.mesh.data, tiny_config.mesh.fsdp, tiny_config.mesh.tensor = sizes
        mesh = mesh_lib.make_mesh(tiny_config.mesh, jax.devices()[: np.prod(sizes)])
        shardings = partitioning.param_shardings(mesh, _state())
        if before is None:
            state = pytrees.to_devices(jax.device_get(_state()), shardings)
        else:
            with run.Checkpoints(before, read_only=True) as saved:
                state = saved.restore(pytrees.abstract_arrays(_state(), shardings))
        kernel = state["opt_state"][0]
        assert kernel.sharding == shardings["opt_state"][0]
        assert len(kernel.addressable_shards[0].data) == 8 // sizes[1]
        before = tmp_path / "x".join([*map(str, sizes), str(before is None)])
        _save(before, state, tiny_config)
        assert inspect.digest(inspect.read(before).params) == expected


def test_one_bit_a_name_a_shape_or_a_dtype_changes_the_digest():
    params = {"a": np.zeros(4, np.float32), "b": np.ones(2, np.float32)}
    others = [
        {**params, "a": np.float32([0, 0, 0, 1e-45])},
        {**params, "a": np.zeros((2, 2), np.float32)},
        {**params, "a": np.zeros(4, np.int32)},
        {"c": params["a"], "b": params["b"]},
    ]
    assert len({inspect.digest(x) for x in (params, *others)}) == 5
    assert inspect.digest(dict(reversed(params.items()))) == inspect.digest(params)


def test_a_workdir_a_checkpoint_a_best_and_a_model_can_be_read(tiny_config, tmp_path):
    _save(tmp_path, _state(), tiny_config, steps=(1, 2))
    vocab = tmp_path / "words.txt"
    vocab.write_text("[PAD]\n")
    model.save_model(tmp_path / "model", _state()["params"], tiny_config, vocab)
    expected = {"": 2, "checkpoints/2": 2, "best/2": 2, "model": None}
    for below, step in expected.items():
        stored = inspect.read(tmp_path / below)
        assert stored.step == step
        assert stored.config.train.batch_size == tiny_config.train.batch_size
        assert inspect.digest(stored.params) == inspect.digest(_state()["params"])
        assert stored.params["query"]["bias"].dtype == jnp.bfloat16


def test_what_is_no_checkpoint_is_one_message(tiny_config, tmp_path):
    with pytest.raises(MissingFileError, match="it does not exist"):
        inspect.read(tmp_path / "none")
    with pytest.raises(MissingFileError, match="none of these"):
        inspect.read(tmp_path)
    _save(tmp_path, _state(), tiny_config)
    for file in (tmp_path / "checkpoints" / "1" / "state").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UsageError, match=r"checkpoints/1 is damaged"):
        inspect.read(tmp_path)


def test_the_tool_ends_with_the_digest(tiny_config, tmp_path):
    _save(tmp_path, _state(), tiny_config)
    command = [sys.executable, "-m", "cada_jax", "inspect"]
    ran = subprocess.run(
        [*command, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.strip().splitlines()
    assert "step 1" in lines and re.search(r"query/kernel +\| +\(8, 8\)", ran.stdout)
    assert '"batch_size": 8' in ran.stdout
    assert lines[-1] == f"sha256 {inspect.digest(_state()['params'])}"
    bad = subprocess.run(
        [*command, str(tmp_path / "none")], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert bad.returncode == 2 and len(bad.stderr.splitlines()) == 1
