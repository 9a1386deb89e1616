"""Tensors to parameters and back: names, layouts, and everything that must be refused."""

import json
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cada_jax.checkpoints.model import load_model
from cada_jax.checkpoints.torch.convert import from_torch, to_torch
from cada_jax.checkpoints.torch.sizes import check_sizes, set_image_size, set_sizes, shapes_of
from cada_jax.common.errors import UsageError
from cada_jax.common.pytrees import flat_arrays
from tests.checkpoints.torch.support import assert_equal, gated_leaves, random_leaves


def test_released_weights_and_back_are_identical(weights, config):
    leaves, left_out = from_torch(weights)
    check_sizes(config, leaves, "it")
    back = to_torch(leaves)
    assert_equal(back, weights)
    assert {n: x.dtype for n, x in back.items()} == {n: x.dtype for n, x in weights.items()}
    assert set(left_out.values()) == {"tied", "buffer"}


def test_full_size_names_and_shapes_are_those_of_the_released_model(load_config, golden):
    shapes = shapes_of(load_config("rstp", "released"))
    assert sum(np.prod(shape) for shape in shapes.values()) == 361_335_104
    released = json.loads((golden / "full_state_dict_shapes.json").read_text())
    ours = to_torch({n: np.broadcast_to(np.float32(0), shape) for n, shape in shapes.items()})
    assert {name: list(array.shape) for name, array in ours.items()} == released


def test_the_shipped_model_without_stems_has_the_released_layout(load_config, golden):
    shipped = load_model("pretrained:plain")
    config, exported = shipped.config, to_torch(flat_arrays(shipped.params))
    depth = {"visual_encoder": config.model.image.depth}

    def is_there(name):
        layer = re.search(r"(?:blocks|layer)\.(\d+)\.", name)
        return not layer or int(layer[1]) < depth.get(name.split(".")[0], config.model.text.depth)

    released = json.loads((golden / "full_state_dict_shapes.json").read_text())
    expected = {name: len(shape) for name, shape in released.items() if is_there(name)}
    assert {name: np.ndim(array) for name, array in exported.items()} == expected
    found = load_config("default")
    set_sizes(found, from_torch(exported)[0], {})
    seen = ("depth", "width", "mlp_dim", "patch", "stem")
    assert [found.model.image[key] for key in seen] == [config.model.image[key] for key in seen]


@pytest.mark.parametrize("dialect", ["cada", "hf"])
def test_other_sizes_survive_the_round_trip_and_are_read_off(tiny_config, load_config, dialect):
    image, text = tiny_config.model.image, tiny_config.model.text
    image.width, image.mlp_dim, image.depth, image.heads = 128, 80, 3, 2
    text.width, text.heads, text.mlp_dim = 64, 1, 72
    tiny_config.data.image_size = (32, 32)
    tiny_config.atp.gate = "off"
    leaves = random_leaves(tiny_config)
    back, _ = from_torch(to_torch(leaves, dialect=dialect))
    assert_equal(back, leaves)
    found = load_config("default")
    set_sizes(found, back)
    set_image_size(found, back, {})
    tokens = found.model.tokens.update(tiny_config.model.tokens)  # of the vocabulary
    assert tokens is None
    found.model.text.dropout = text.dropout
    assert found.model == tiny_config.model


def test_a_gate_and_stems_travel_only_when_asked_for(tiny_config):
    with pytest.raises(UsageError, match="--drop_gate"):
        to_torch(gated_leaves(tiny_config, 0.1))
    assert not [n for n in to_torch(gated_leaves(tiny_config, 0.1), "drop_gate") if "gate" in n]
    assert not [n for n in to_torch(gated_leaves(tiny_config, 0.0)) if "gate" in n]
    tiny_config.model.image.stem = tiny_config.model.text.stem = "conv"
    leaves = gated_leaves(tiny_config, 0.1)
    with pytest.raises(UsageError, match="stem"):
        to_torch(leaves, "drop_gate")
    back, _ = from_torch(to_torch(leaves, "keep"))
    assert_equal(back, leaves)
    check_sizes(tiny_config, back, "it")


def test_what_only_pretraining_needs_is_left_out_by_name(weights):
    extra = {
        "temp": np.zeros((), np.float32),
        "image_queue": np.zeros((256, 16), np.float32),
        "ptr_queue": np.zeros(1, np.int64),
        "visual_encoder_m.norm.weight": np.full(64, np.nan, np.float32),
        "text_proj_m.bias": np.zeros(256, np.float32),
    }
    leaves, left_out = from_torch(weights | extra)
    assert_equal(leaves, from_torch(weights)[0])
    assert set(extra) <= set(left_out)


def test_every_misfit_is_listed_at_once(weights):
    weights["vision_proj.weight"] = np.zeros((9, 64), np.int32)
    weights["visual_encoder.norm.bias"] = np.full(64, np.nan, np.float32)
    weights["visual_encoder.blocks.7.norm1.bias"] = np.zeros(64, np.float32)
    weights["text_decoder.cls.predictions.decoder.bias"] = np.ones(200, np.float32)
    with pytest.raises(UsageError) as error:
        from_torch(weights, origin="some.pth")
    message = str(error.value)
    assert message.startswith("some.pth is no whole model, in 5 places:")
    for part in (
        "vision_proj.weight is int32, expected floating point",
        "not finite: visual_encoder.norm.bias has 64",
        "missing: visual_encoder.blocks.2.norm1.bias",
        "unexpected: visual_encoder.blocks.7.norm1.bias",
        "decoder.bias differs from text_decoder.cls.predictions.bias",
    ):
        assert part in message


CHANGES = ("drop", "rename", "take the next one's name", "reshape", "transpose", "cut", "lengthen",
           "integers", "nan", "a tensor nobody knows")  # fmt: skip
SHAPES = {
    "reshape": lambda x: x.reshape(-1),
    # A transposed square has the same shape: other values, which nobody can tell from weights.
    "transpose": lambda x: x if len(set(x.shape)) == 1 else np.ascontiguousarray(x.T),
    "cut": lambda x: x[:-1],
    "lengthen": lambda x: np.concatenate([x, x[:1]]),
    "integers": lambda x: x.astype(np.int32),
    "nan": lambda x: np.full_like(x, np.nan, dtype=np.float32),
}


def changed(tensors, change, number):
    """`tensors` with one of them changed, and a new dictionary."""
    names = sorted(tensors)
    name, following = names[number % len(names)], names[(number + 1) % len(names)]
    array, others = tensors[name], {n: x for n, x in tensors.items() if n != name}
    if change == "drop":
        return others
    if change == "rename":
        return others | {f"{name}x": array}
    if change == "take the next one's name":
        return others | {following: array}
    if change == "a tensor nobody knows":
        return tensors | {"what.is.this": np.ones(3, np.float32)}
    return others | {name: SHAPES[change](np.atleast_1d(array))}


# The fixtures hold the same arrays for every example, and nothing changes them.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=st.sampled_from(CHANGES), number=st.integers(0, 10**6))
def test_a_changed_tensor_never_gives_other_parameters(weights, config, change, number):
    wanted, _ = from_torch(weights)
    try:
        leaves, _ = from_torch(changed(weights, change, number))
    except UsageError as error:
        assert str(error) and "\n\n" not in str(error)
        return
    if {n: x.shape for n, x in leaves.items()} == {n: x.shape for n, x in wanted.items()}:
        assert_equal(leaves, wanted)
        return
    lacking = {name.split("/")[0] for name in wanted} - {name.split("/")[0] for name in leaves}
    if not lacking:  # a part that is not there is reported as such
        with pytest.raises(UsageError):
            check_sizes(config, leaves, "it")
