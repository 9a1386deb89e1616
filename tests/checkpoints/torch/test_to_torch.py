"""What the authors' network has no place for travels only when asked."""

import pytest

from cada_jax.checkpoints.torch.convert import from_torch
from cada_jax.checkpoints.torch.to_torch import to_torch
from cada_jax.common.errors import UsageError
from tests.checkpoints.torch.support import assert_equal, gated_leaves, random_leaves, shapes_of


def test_a_gate_travels_only_when_asked_for(tiny_config):
    leaves = gated_leaves(tiny_config, 0.1)
    with pytest.raises(UsageError, match="--drop_gate"):
        to_torch(leaves)
    dropped = to_torch(leaves, "drop_gate")
    assert not [name for name in dropped if "gate" in name]
    kept = to_torch(leaves, "keep")
    back, _ = from_torch(kept, shapes_of(tiny_config), (4, 2), (4, 2))
    assert_equal(back, leaves)


def test_an_untrained_gate_needs_no_permission(tiny_config):
    tensors = to_torch(gated_leaves(tiny_config, 0.0))
    _, report = from_torch(tensors, shapes_of(tiny_config), (4, 2), (4, 2))
    new = {row.ours for row in report if row.status == "new"}
    assert new == {"text_encoder/layers/gate/kernel", "text_encoder/layers/gate/bias"}


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_convolutional_stem_cannot_go_to_the_authors_code(tiny_config, side):
    tiny_config.model[side].stem = "conv"
    tiny_config.atp.gate = "off"
    leaves = random_leaves(tiny_config)
    with pytest.raises(UsageError, match="stem"):
        to_torch(leaves, "drop_gate")
    kept = to_torch(leaves, "keep")
    back, _ = from_torch(kept, shapes_of(tiny_config), (4, 2), (4, 2))
    assert_equal(back, leaves)
