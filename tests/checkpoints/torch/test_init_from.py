"""A run that starts from a PyTorch checkpoint, or scores one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from cada_jax.checkpoints.torch.convert import from_torch
from cada_jax.checkpoints.torch.sizes import shapes_of
from cada_jax.checkpoints.weights import load_initial
from cada_jax.common.errors import UsageError
from tests.checkpoints.torch.support import save


def test_a_run_may_start_from_a_pytorch_checkpoint(torch, weights, config, tmp_path):
    save(torch, tmp_path / "released.pth", weights)
    config.init_from = str(tmp_path / "released.pth")
    config.atp.gate = "token"
    params = {path: jnp.ones(shape) for path, shape in shapes_of(config).items()}
    params = unflatten_dict(params, sep="/")
    filled, report = load_initial(config, params, tmp_path / "vocab.txt")
    wanted, _ = from_torch(weights)
    got = flatten_dict(jax.device_get(filled), sep="/")
    for name, leaf in wanted.items():
        np.testing.assert_array_equal(got[name], leaf, err_msg=name)
    assert set(report.new) == {n for n in got if "/gate/" in n}


@pytest.fixture
def start(torch, config, tmp_path):
    """A function: tensors of a checkpoint -> (params, report) of a run that starts from it.

    The parameters are shapes with shardings, as the scoring command gives them.
    """

    def load(tensors):
        save(torch, tmp_path / "start.pth", tensors)
        config.init_from = str(tmp_path / "start.pth")
        one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        params = {
            path: jax.ShapeDtypeStruct(shape, np.float32, sharding=one)
            for path, shape in shapes_of(config).items()
        }
        return load_initial(config, unflatten_dict(params, sep="/"), tmp_path / "vocab.txt")

    return load


def test_a_gate_that_is_new_is_exactly_1_and_may_be_scored(start, weights, config):
    config.atp.gate = "token"
    params, report = start(weights)
    assert report.new and report.new_is_neutral
    flat = flatten_dict(params, sep="/")
    assert all(isinstance(x, jax.Array) for x in flat.values())
    assert not any(x.any() for name, x in flat.items() if "/gate/" in name)


@pytest.mark.parametrize("part", ["itm_local_head", "text_proj"])
def test_any_other_new_part_is_not_neutral(start, weights, part):
    _, report = start({n: x for n, x in weights.items() if not n.startswith(part)})
    assert not report.new_is_neutral
    assert ("WARNING: the source has no text_proj" in str(report)) == (part == "text_proj")


def test_what_a_checkpoint_has_besides_is_reported(start, weights, config):
    config.data.image_size = (64, 32)
    queue = {"image_queue": np.zeros((256, 16), np.float32)}
    _, report = start(weights | queue)
    assert "left out: image_queue (queue)" in str(report)
    assert "resized: image_encoder/pos_embed from 2x2 to 4x2 patches" in str(report)


def test_a_part_of_which_a_tensor_is_lacking_is_refused(start, weights):
    del weights["text_proj.bias"]
    with pytest.raises(UsageError, match="missing: text_proj/bias"):
        start(weights)
