"""Operations are counted as by hand."""

import pytest

from cada_jax.config import load_config
from tools.bench import flops


def test_operations_of_the_full_model():
    """On the released schedule, with keys and values for each pair, a step takes 393 GFLOP."""
    config = load_config("default")
    # Sharing keys and values saves two of three times 2 x 197 x 2 x 768^2 a layer, both ways.
    saved = 3 * 2 * 12 * 4 * 197 * 768**2
    assert flops.train_step(config, 1, 73, logits=73) + saved == pytest.approx(393e9, rel=0.03)
