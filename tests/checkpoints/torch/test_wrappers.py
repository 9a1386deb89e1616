"""Wrappers of any kind, in any order, change nothing; what cannot be told apart is refused."""

import argparse
import pathlib
import sys
import types

import numpy as np
import pytest

from cada_jax.checkpoints.torch import files
from cada_jax.checkpoints.torch.names import STATE_KEYS
from cada_jax.common.errors import UsageError
from tests.checkpoints.torch.support import as_tensors, assert_equal

ARRAYS = {
    "visual_encoder.norm.weight": np.arange(3, dtype=np.float32),
    "text_encoder.encoder.layer.0.output.dense.bias": np.ones(2, np.float32),
    "itm_head.bias": np.full(2, 7, np.float32),
}
PREFIXES = (
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model.",
    "model.module.",
    "net.",
    "state_dict.model.",
    "module.module.",
)


def read(torch, path, content):
    torch.save(content, path)
    return files.read_checkpoint(path).tensors


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_names_are_dropped(torch, tmp_path, prefix):
    state = as_tensors(torch, {f"{prefix}{n}": x for n, x in ARRAYS.items()})
    for content in (state, {"model": state}, {"state_dict": state, "epoch": 3}):
        assert_equal(read(torch, tmp_path / "a", content), ARRAYS)


def test_a_wrapper_inside_a_name_is_dropped(torch, tmp_path):
    names = {n: n.replace("encoder.", "encoder._orig_mod.", 1) for n in ARRAYS}
    state = as_tensors(torch, {names[n]: x for n, x in ARRAYS.items()})
    assert_equal(read(torch, tmp_path / "a", state), ARRAYS)


@pytest.mark.parametrize("key", STATE_KEYS)
def test_the_weights_may_lie_under_any_key_at_any_depth(torch, tmp_path, key):
    state = as_tensors(torch, ARRAYS)
    beside = {
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(5)}}, "param_groups": [{"lr": 1e-5}]},
        "rng": torch.zeros(4, dtype=torch.uint8),
    }
    for content in ({key: state}, {key: {"model": state}}, {"state_dict": {key: state}}):
        assert_equal(read(torch, tmp_path / "a", content | beside), ARRAYS)


def test_a_state_dict_for_each_part_is_put_together(torch, tmp_path):
    parts: dict = {"epoch": 1}
    for name, tensor in as_tensors(torch, ARRAYS).items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    assert_equal(read(torch, tmp_path / "a", {"model": parts}), ARRAYS)


@pytest.mark.parametrize("second", ["ema", "model_ema", "state_dict"])
def test_equal_copies_are_read_and_different_ones_refused(torch, tmp_path, second):
    state, other = as_tensors(torch, ARRAYS), as_tensors(torch, ARRAYS)
    assert_equal(read(torch, tmp_path / "a", {"model": state, second: other}), ARRAYS)
    other["itm_head.bias"] += 1
    with pytest.raises(UsageError, match=f"model.itm_head.bias and {second}.itm_head.bias"):
        read(torch, tmp_path / "a", {"model": state, second: other})


@pytest.mark.parametrize("twin", [np.full(2, 8), np.full(3, 7)])
def test_a_name_that_stands_twice_under_prefixes_is_refused_if_it_differs(torch, tmp_path, twin):
    arrays = ARRAYS | {"module.itm_head.bias": ARRAYS["itm_head.bias"].copy()}
    assert_equal(read(torch, tmp_path / "a", as_tensors(torch, arrays)), ARRAYS)
    arrays["module.itm_head.bias"] = twin.astype(np.float32)
    with pytest.raises(UsageError, match="differ: itm_head.bias and module.itm_head.bias"):
        read(torch, tmp_path / "a", as_tensors(torch, arrays))


HARMLESS = {
    "numpy scalar": np.float64(0.5),
    "numpy array": np.arange(3),
    "numpy string": np.str_("x"),
    "flags": argparse.Namespace(lr=1e-5, out=pathlib.PurePosixPath("out"), best=np.float32(1)),
    "path": pathlib.Path("out"),
}


@pytest.mark.parametrize("extra", HARMLESS)
@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_extras_are_read_over(torch, tmp_path, extra, zipped):
    state = as_tensors(torch, ARRAYS)
    for content in ({"model": state, "extra": HARMLESS[extra]}, state | {"best": np.float64(1)}):
        torch.save(content, tmp_path / "a", _use_new_zipfile_serialization=zipped)
        assert_equal(files.read_checkpoint(tmp_path / "a").tensors, ARRAYS)


class DictConfig(dict):
    """As OmegaConf's, for a module that exists only while the file is written."""


@pytest.fixture
def omegaconf(monkeypatch):
    module = types.ModuleType("omegaconf")
    module.DictConfig = DictConfig
    DictConfig.__module__ = "omegaconf"
    monkeypatch.setitem(sys.modules, "omegaconf", module)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_remedy_for_what_is_refused_works_as_printed(torch, omegaconf, tmp_path, zipped):
    path = tmp_path / "run.ckpt"
    content = {"epoch": 1, "state_dict": as_tensors(torch, ARRAYS), "cfg": DictConfig(lr=1)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UsageError) as error:
        files.read_checkpoint(path)
    first, *lines = str(error.value).splitlines()
    assert "omegaconf.DictConfig" in first and "where omegaconf is installed" in first
    assert len(lines) == 3
    exec("\n".join(line.strip() for line in lines), {})
    assert_equal(files.read_checkpoint(tmp_path / "run_weights.pth").tensors, ARRAYS)


@pytest.mark.parametrize("flat", [True, False])
def test_the_remedy_finds_the_weights_of_other_forms_too(torch, omegaconf, tmp_path, flat):
    path = tmp_path / "odd.pth"
    state = as_tensors(torch, ARRAYS)
    module = torch.nn.Linear(2, 2)
    torch.save(state | {"cfg": DictConfig(lr=1)} if flat else module, path)
    with pytest.raises(UsageError) as error:
        files.read_checkpoint(path)
    exec("\n".join(line.strip() for line in str(error.value).splitlines()[1:]), {})
    wanted = ARRAYS if flat else {n: x.detach().numpy() for n, x in module.state_dict().items()}
    assert_equal(files.read_checkpoint(tmp_path / "odd_weights.pth").tensors, wanted)
