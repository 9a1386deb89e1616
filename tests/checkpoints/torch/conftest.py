"""The golden weights, their config, and the command that converts."""

import json

import numpy as np
import pytest

from cada_jax.checkpoints.torch import command, sizes


@pytest.fixture
def convert():
    """The main function of `python -m cada_jax convert`."""
    return command.main


@pytest.fixture
def weights(golden):
    with np.load(golden / "weights_tiny.npz") as file:
        return dict(file)


@pytest.fixture
def config(load_config, weights):
    """The config of the golden weights, gate off."""
    config = load_config("default")
    sizes.infer_sizes(weights, config)
    config.data.image_size = (32, 32)
    config.model.image.heads = config.model.text.heads = 4
    config.model.text.vocab_size, config.model.text.max_positions = 200, 128
    config.model.tokens.dec, config.model.tokens.enc = 198, 199
    config.atp.gate = "off"
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


@pytest.fixture
def config_file(config, tmp_path):
    """A config file of the golden model's sizes, as --config takes it."""
    path = tmp_path / "tiny.py"
    body = json.dumps(json.loads(config.to_json()))
    path.write_text(
        "import json\nfrom ml_collections import ConfigDict\n\n\n"
        "def tuples(value):\n"
        "    if isinstance(value, dict):\n"
        "        return {k: tuples(v) for k, v in value.items()}\n"
        "    return tuple(map(tuples, value)) if isinstance(value, list) else value\n\n\n"
        f"def get_config():\n    return ConfigDict(tuples(json.loads({body!r})))\n"
    )
    return path
