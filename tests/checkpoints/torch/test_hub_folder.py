"""Hugging Face folders: whole ones are read, the others say what is wrong with them."""

import json

import numpy as np
import pytest

from cada_jax.checkpoints.torch import files
from cada_jax.common.errors import UsageError
from tests.checkpoints.torch.support import assert_equal

ARRAYS = {
    "vision_model.post_layernorm.bias": np.arange(3, dtype=np.float32),
    "itm_head.bias": np.ones(2, np.float32),
}
INDEX, SHARD = "model.safetensors.index.json", "part{}.safetensors"


@pytest.fixture
def folder(torch, tmp_path):
    """A folder of two shards, one tensor in each."""
    from safetensors.numpy import save_file

    path = tmp_path / "hub"
    path.mkdir()
    for i, (name, array) in enumerate(ARRAYS.items()):
        save_file({name: array}, path / SHARD.format(i))
    weight_map = {name: SHARD.format(i) for i, name in enumerate(ARRAYS)}
    (path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return path


def test_shards_config_and_vocabulary_are_read(folder):
    (folder / "config.json").write_text('{"model_type": "blip"}')
    (folder / "vocab.txt").write_text("[PAD]\n")
    checkpoint = files.read_checkpoint(folder)
    assert_equal(checkpoint.tensors, ARRAYS)
    assert checkpoint.config == {"model_type": "blip"}
    assert checkpoint.vocab == folder / "vocab.txt"


INDEXES = {
    "{}": "no .weight_map",
    "[]": "holds a list",
    '{"weight_map": {}}': "no .weight_map",
    '{"weight_map": ["a"]}': "no .weight_map",
    '{"weight_map": {"a": "../x.safetensors"}}': "'../x.safetensors' for a, expected the name",
    '{"weight_map": {"a": "/etc/passwd"}}': "expected the name of a file",
    '{"weight_map": {"a": ".."}}': "names .., which is not beside it",
    '{"weight_map": {"a": "sub\\\\\\\\x"}}': "expected the name of a file",
    '{"weight_map": {"a": 3}}': "3 for a, expected",
    '{"weight_map": {"a": "part7.safetensors"}}': "part7.safetensors, which is not beside it",
    '{"weight_map": {"a": "part0.safetensors"}}': "part0.safetensors holds a, but it does not",
    '{"weight_map": {"a": "config.json"}}': "but a JSON file",
    "not json": "no readable JSON",
    "[" * 100_000: "no readable JSON",
    "": "no readable JSON",
}


@pytest.mark.parametrize("index", INDEXES, ids=lambda text: text[:50])
def test_an_index_that_names_no_shards_is_refused(folder, index):
    (folder / INDEX).write_text(index)
    (folder / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=INDEXES[index]):
        files.read_checkpoint(folder)


@pytest.mark.parametrize("config", ["[]", "3", "null", "{", "\0"])
def test_a_config_that_is_no_object_is_refused(folder, config):
    (folder / "config.json").write_text(config)
    with pytest.raises(UsageError, match="config.json (holds a|is no readable JSON)"):
        files.read_checkpoint(folder)


def test_a_tensor_that_two_shards_give_differently_is_refused(folder):
    from safetensors.numpy import save_file

    save_file(ARRAYS, folder / SHARD.format(1))
    assert_equal(files.read_checkpoint(folder).tensors, ARRAYS)
    save_file({n: x + 1 for n, x in ARRAYS.items()}, folder / SHARD.format(1))
    with pytest.raises(UsageError, match="stand twice and differ: part0.safetensors.vision_model"):
        files.read_checkpoint(folder)


def test_a_folder_without_a_model_names_the_files_it_holds(tmp_path):
    (tmp_path / "best.pth").write_bytes(b"")
    with pytest.raises(UsageError, match="holds none of model.safetensors.*it holds best.pth"):
        files.read_checkpoint(tmp_path)
