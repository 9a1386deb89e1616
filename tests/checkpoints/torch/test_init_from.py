"""A run that starts from a PyTorch checkpoint, or scores one."""

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from cada_jax.checkpoints.torch.convert import from_torch
from cada_jax.checkpoints.weights import load_initial
from cada_jax.models.cada import from_config, init_params
from tests.checkpoints.torch.support import GRID, save, shapes_of


def test_a_run_may_start_from_a_pytorch_checkpoint(torch, weights, config, tmp_path):
    save(torch, tmp_path / "released.pth", weights)
    config.init_from = str(tmp_path / "released.pth")
    config.atp.gate = "token"
    params = init_params(from_config(config), config, jax.random.key(0))
    filled, report = load_initial(config, params, tmp_path / "vocab.txt")
    wanted, _ = from_torch(weights, shapes_of(config), GRID)
    got = flatten_dict(jax.device_get(filled), sep="/")
    for name, leaf in wanted.items():
        np.testing.assert_array_equal(got[name], leaf, err_msg=name)
    assert set(report.new) == {n for n in got if "/gate/" in n}
