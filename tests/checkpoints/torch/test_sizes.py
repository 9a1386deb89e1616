"""What the config beside a checkpoint tells of its model."""

import numpy as np
import pytest

from cada_jax.checkpoints.torch.sizes import set_image_size, set_sizes, stored_grid
from cada_jax.common.errors import UsageError


def ours(size):
    return {"cada_jax": {"config": {"model": {"image": {"size": size, "patch": [16, 16]}}}}}


@pytest.mark.parametrize(
    ("config", "rows", "grid"),
    [
        (ours([384, 96]), 144, (24, 6)),
        ({"vision_config": {"image_size": 192, "patch_size": 16}}, 144, (12, 12)),
        ({"image_size": 192}, 144, (12, 12)),
        ({"image_res": [384, 96]}, 144, (24, 6)),
        ({"image_res": 224}, 144, None),  # what the run was started with, before resizing
        ({}, 144, None),
        ({"cada_jax": {"config": {"model": {"image": [1]}}}}, 144, None),
        ({"image_size": "192"}, 144, None),
    ],
)
def test_the_config_of_a_checkpoint_tells_its_grid(config, rows, grid):
    assert stored_grid(rows, config, (16, 16)) == grid


def test_a_grid_that_nothing_tells_is_square_or_asked_for(load_config):
    config = load_config("default")
    leaves = {"image_encoder/pos_embed": np.zeros((1, 1 + 144, 8), np.float32)}
    set_image_size(config, leaves, {})
    assert config.data.image_size == (192, 192)
    set_image_size(config, leaves, {"image_res": [384, 96]})
    assert config.data.image_size == (384, 96)
    leaves["image_encoder/pos_embed"] = np.zeros((1, 1 + 192, 8), np.float32)
    with pytest.raises(UsageError, match="--image_size=384,128"):
        set_image_size(config, leaves, {})


def test_heads_are_those_of_the_config_or_64_wide(load_config):
    config = load_config("default")
    leaves = {"image_encoder/blocks/mlp/fc1/kernel": np.zeros((2, 256, 8), np.float32)}
    set_sizes(config, leaves)
    assert config.model.image.heads == 4
    set_sizes(config, leaves, {"vision_config": {"num_attention_heads": 8}})
    assert config.model.image.heads == 8
