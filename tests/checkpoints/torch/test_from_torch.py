"""Tensors to parameters: names, layouts, and everything that must be refused."""

import json

import numpy as np
import pytest

from cada_jax.checkpoints.torch.convert import from_torch
from cada_jax.checkpoints.torch.layout import torch_shapes
from cada_jax.checkpoints.torch.names import POSITION_IDS, TIED
from cada_jax.checkpoints.torch.sizes import infer_sizes
from cada_jax.checkpoints.torch.to_torch import to_torch
from cada_jax.common.errors import UsageError
from tests.checkpoints.torch.support import GRID, assert_equal, random_leaves, shapes_of


def test_released_weights_and_back_are_identical(weights, config):
    leaves, report = from_torch(weights, shapes_of(config), GRID)
    assert set(leaves) == set(shapes_of(config))
    assert_equal(to_torch(leaves), weights)
    assert {row.status for row in report} == {"loaded", "left out"}


def test_full_size_names_and_shapes_are_those_of_the_released_model(load_config, golden):
    config = load_config("rstp", "released")
    shapes = shapes_of(config)
    assert sum(np.prod(shape) for shape in shapes.values()) == 361_335_104
    released = json.loads((golden / "full_state_dict_shapes.json").read_text())
    ours = torch_shapes(shapes)
    ours |= {copy: ours[original] for copy, original in TIED.items()}
    positions = (1, config.model.text.max_positions)
    ours |= dict.fromkeys(POSITION_IDS, positions)
    assert {name: list(shape) for name, shape in ours.items()} == released


@pytest.mark.parametrize("dialect", ["cada", "hf"])
def test_other_widths_survive_the_round_trip(tiny_config, dialect):
    tiny_config.model.image.width, tiny_config.model.image.mlp_dim = 48, 80
    tiny_config.model.image.depth = 3
    tiny_config.atp.gate = "off"
    leaves = random_leaves(tiny_config)
    tensors = to_torch(leaves, dialect=dialect)
    grid = (4, 2)
    back, _ = from_torch(tensors, shapes_of(tiny_config), grid, grid)
    assert_equal(back, leaves)
    sizes = tiny_config.copy_and_resolve_references()
    sizes.model.image.width = sizes.model.image.depth = sizes.model.text.mlp_dim = 7
    infer_sizes(tensors, sizes)
    for side in ("image", "text"):
        for field in ("width", "depth", "mlp_dim"):
            assert sizes.model[side][field] == tiny_config.model[side][field]


def test_what_only_pretraining_needs_is_left_out_by_name(weights, config):
    extra = {
        "temp": np.zeros((), np.float32),
        "image_queue": np.zeros((256, 16), np.float32),
        "ptr_queue": np.zeros(1, np.int64),
        "visual_encoder_m.norm.weight": np.full(64, np.nan, np.float32),
        "text_proj_m.bias": np.zeros(256, np.float32),
    }
    leaves, report = from_torch(weights | extra, shapes_of(config), GRID)
    plain, _ = from_torch(weights, shapes_of(config), GRID)
    assert_equal(leaves, plain)
    assert set(extra) <= {row.theirs for row in report if row.status == "left out"}


def test_a_part_the_checkpoint_lacks_is_new_and_an_incomplete_one_is_refused(weights, config):
    without = {n: x for n, x in weights.items() if not n.startswith("itm_local_head")}
    leaves, report = from_torch(without, shapes_of(config), GRID)
    new = {row.ours for row in report if row.status == "new"}
    assert new == {"itm_local_head/kernel", "itm_local_head/bias"}
    assert not new & set(leaves)
    del without["text_proj.bias"], without["text_encoder.encoder.layer.1.output.dense.bias"]
    with pytest.raises(UsageError) as error:
        from_torch(without, shapes_of(config), GRID)
    assert "text_proj.bias" in str(error.value)
    assert "text_encoder.encoder.layer.1.output.dense.bias" in str(error.value)


def test_every_misfit_is_listed_at_once(weights, config):
    weights["vision_proj.weight"] = np.zeros((9, 64), np.float32)
    weights["visual_encoder.norm.bias"] = np.full(64, np.nan, np.float32)
    weights["visual_encoder.blocks.2.norm1.bias"] = np.zeros(64, np.float32)
    weights["text_decoder.cls.predictions.decoder.bias"] = np.ones(200, np.float32)
    with pytest.raises(UsageError) as error:
        from_torch(weights, shapes_of(config), GRID, origin="some.pth")
    message = str(error.value)
    assert "some.pth" in message and "4 places" in message
    for part in (
        "vision_proj.weight is 9x64, expected 256x64",
        "not finite: visual_encoder.norm.bias has 64",
        "unexpected: visual_encoder.blocks.2.norm1.bias",
        "decoder.bias differs from text_decoder.cls.predictions.bias",
    ):
        assert part in message


def test_another_vocabulary_is_named(weights, config):
    config.model.text.vocab_size = 150
    with pytest.raises(UsageError, match="200x64, expected 150x64 .*vocab_size"):
        from_torch(weights, shapes_of(config), GRID)


def test_clip_is_refused_as_such(config):
    names = ("visual.conv1.weight", "transformer.resblocks.0.ln_1.weight", "logit_scale")
    clip = {name: np.zeros(3, np.float32) for name in names}
    with pytest.raises(UsageError, match="no CADA or BLIP checkpoint.*looks like CLIP"):
        from_torch(clip, shapes_of(config), GRID)
