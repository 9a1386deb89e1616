"""The golden weights, their config, and the command that converts."""

import numpy as np
import pytest

from cada_jax.checkpoints import commands
from cada_jax.checkpoints.torch.convert import from_torch
from cada_jax.checkpoints.torch.sizes import set_image_size, set_sizes


@pytest.fixture
def convert(monkeypatch):
    """`cada convert`, as the command line runs it."""
    from cada_jax.common.command_line import run_command

    return lambda argv: run_command(lambda: commands.convert(argv))


@pytest.fixture
def weights(golden):
    with np.load(golden / "weights_tiny.npz") as file:
        return dict(file)


@pytest.fixture
def config(load_config, weights):
    """The config of the golden weights: heads of 16 numbers, gate off."""
    config = load_config("default")
    leaves, _ = from_torch(weights)
    set_sizes(config, leaves)
    set_image_size(config, leaves, {})
    config.model.image.heads = config.model.text.heads = 4
    config.model.tokens.dec, config.model.tokens.enc = 198, 199
    return config


@pytest.fixture
def vocab(tmp_path):
    """A vocabulary file of 200 entries with [DEC] and [ENC]."""
    entries = [f"word{i}" for i in range(198)]
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    entries = [special.get(i, entry) for i, entry in enumerate(entries)]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(entries) + "\n")
    return path
