"""Position embeddings: which grid they belong to, and how they are resized."""

import numpy as np
import pytest

from cada_jax.checkpoints.torch.convert import from_torch
from cada_jax.checkpoints.torch.files import Checkpoint
from cada_jax.checkpoints.torch.report import format_report
from cada_jax.checkpoints.torch.sizes import stored_grid
from cada_jax.models.position_embedding import find_grid, resize_positions
from tests.checkpoints.torch.support import shapes_of


def test_positions_are_resized_as_in_the_released_code(golden):
    with np.load(golden / "a_posembed.npz") as arrays:
        for name in (n for n in arrays if n.endswith("/in")):
            wanted = arrays[name.replace("/in", "/out")]
            grids = [find_grid(x.shape[1] - 1, (0, 0)) for x in (arrays[name], wanted)]
            got = resize_positions(arrays[name], *grids)
            np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("target", [(24, 8), (5, 3), (28, 7), (14, 9)])
def test_positions_of_any_shape_are_resized_as_torch_does(torch, target):
    source, width = (14, 7), 6
    patches = np.random.default_rng(0).standard_normal((1, width, *source)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(patches), size=target, mode="bicubic", align_corners=False
    )
    rows = np.moveaxis(patches, 1, -1).reshape(1, -1, width)
    positions = np.concatenate([np.full((1, 1, width), 7, np.float32), rows], axis=1)
    got = resize_positions(positions, source, target)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[:, 0], positions[:, 0])
    wanted = np.moveaxis(wanted.numpy(), 1, -1).reshape(1, -1, width)
    np.testing.assert_allclose(got[:, 1:], wanted, rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("count", "target", "grid"),
    [
        (196, (24, 8), (14, 14)),
        (98, (14, 7), (14, 7)),
        (144, (24, 6), (24, 6)),  # as many as 12x12
        (64, (16, 4), (16, 4)),
        (144, (24, 8), (12, 12)),
        (1, (24, 8), (1, 1)),
    ],
)
def test_a_grid_nobody_stored_is_the_expected_one_or_square(count, target, grid):
    assert find_grid(count, target) == grid


@pytest.mark.parametrize("count", [99, 0, -1])
def test_a_number_of_positions_that_is_no_grid_is_refused(count):
    with pytest.raises(ValueError, match=f"^{count} position"):
        find_grid(count, (14, 7))


def checkpoint(weights, config, patches=4):
    """A checkpoint of the golden weights with another number of positions and a config."""
    positions = np.random.default_rng(0).standard_normal((1, 1 + patches, 64)).astype(np.float32)
    return Checkpoint(None, weights | {"visual_encoder.pos_embed": positions}, config)


def ours(size):
    image = {"size": size, "patch": [16, 16]}
    return {"cada_jax": {"config": {"model": {"image": image}}}}


@pytest.mark.parametrize(
    ("config", "patches", "grid"),
    [
        (ours([384, 96]), 144, (24, 6)),
        (ours([192, 192]), 144, (12, 12)),
        (ours([192, 192]), 143, None),
        ({"vision_config": {"image_size": 192, "patch_size": 16}}, 144, (12, 12)),
        ({"image_size": 192}, 144, (12, 12)),
        ({"image_res": [384, 96]}, 144, (24, 6)),
        ({"image_res": 224}, 144, None),  # what the run was started with, before resizing
        ({}, 144, None),
        ({"cada_jax": None}, 144, None),
        ({"cada_jax": {"config": {"model": {"image": [1]}}}}, 144, None),
        (ours([0, 96]), 144, None),
        (ours("384x96"), 144, None),
        ({"image_size": "192"}, 144, None),
        ({"vision_config": {"image_size": 192}}, 144, None),
    ],
)
def test_the_config_of_a_checkpoint_tells_its_grid(weights, config, patches, grid):
    assert stored_grid(checkpoint(weights, config, patches)) == grid


def resized(rows):
    return [(row.their_shape, row.our_shape) for row in rows if row.status == "resized"]


def test_an_equal_number_of_positions_keeps_its_grid(weights, config):
    config.data.image_size = (384, 96)
    given = checkpoint(weights, {}, 144)
    leaves, rows = from_torch(given.tensors, shapes_of(config), (24, 6))
    wanted = given.tensors["visual_encoder.pos_embed"]
    np.testing.assert_array_equal(leaves["image_encoder/pos_embed"], wanted)
    assert not resized(rows)


def test_the_stored_grid_comes_before_an_equal_number(weights, config):
    config.data.image_size = (384, 96)
    given = checkpoint(weights, ours([192, 192]), 144)
    leaves, rows = from_torch(given.tensors, shapes_of(config), (24, 6), stored_grid(given))
    wanted = resize_positions(given.tensors["visual_encoder.pos_embed"], (12, 12), (24, 6))
    np.testing.assert_array_equal(leaves["image_encoder/pos_embed"], wanted)
    assert resized(rows) == [("12x12 patches, stored with the checkpoint", "24x6 patches")]


def test_positions_are_resized_while_converting(weights, config):
    config.data.image_size = (64, 32)
    leaves, rows = from_torch(weights, shapes_of(config), (4, 2))
    assert resized(rows) == [("2x2 patches, by the number of positions", "4x2 patches")]
    assert "1 resized" in format_report(rows)
    wanted = resize_positions(weights["visual_encoder.pos_embed"], (2, 2), (4, 2))
    np.testing.assert_array_equal(leaves["image_encoder/pos_embed"], wanted)
