"""A model's folder comes back bit by bit, and replaces nothing but a model's folder."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax import config as config_lib
from cada_jax.checkpoints import model
from cada_jax.common.errors import MissingFileError, UsageError
from tests.conftest import REPOSITORY


def _params(width: int = 3) -> dict:
    rng = np.random.default_rng(width)
    return {"kernel": np.float32(rng.normal(size=(8, width))), "head": np.ones(width, np.float32)}


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("[PAD]\nred\n")
    return path


def test_a_model_comes_back_bit_by_bit(tmp_path, tiny_config, vocab):
    card = {"R1": 71.5}
    on_devices = jax.tree.map(jnp.asarray, _params())
    path = model.save_model(tmp_path / "model", on_devices, tiny_config, vocab, card)
    back = model.load_model(path)
    for name, array in _params().items():
        assert isinstance(back.params[name], np.ndarray)
        np.testing.assert_array_equal(back.params[name], array)
    assert not config_lib.differing_keys(back.config, tiny_config)
    hash(back.config.model.image.size)  # a list would not do as a static argument
    assert back.vocab_path.read_text() == vocab.read_text()
    assert back.card == json.loads((path / "card.json").read_text()) == card


def test_a_model_does_not_tell_where_it_was_made(tiny_config, vocab, tmp_path):
    path = model.save_model(tmp_path / "model", _params(), tiny_config, vocab)
    files = [file for file in path.rglob("*") if file.is_file()]
    assert files
    assert [file for file in files if str(tmp_path).encode() in file.read_bytes()] == []


def test_saving_again_replaces_the_model_and_leaves_nothing_else(tmp_path, tiny_config, vocab):
    target = tmp_path / "out" / "model"
    for width in (3, 5):
        model.save_model(target, _params(width), tiny_config, vocab, overwrite=True)
    assert model.load_model(target).params["head"].shape == (5,)
    assert [p.name for p in target.parent.iterdir()] == ["model"]
    with pytest.raises(FileNotFoundError):  # a save that fails leaves the old one
        model.save_model(target, _params(7), tiny_config, tmp_path / "none", overwrite=True)
    assert model.load_model(target).params["head"].shape == (5,)


def test_what_names_no_model_says_what_is_expected(tmp_path, tiny_config):
    with pytest.raises(MissingFileError, match=r"config\.json, vocab\.txt, params"):
        model.load_model(tmp_path / "nothing")
    with pytest.raises(MissingFileError, match="Shipped are: pretrained:abroad"):
        model.load_model("pretrained:no-such-model")
    for path, part in (("gs://a/b", "address"), ("~nobody0/x", "no user"), ("a\\b", "back-slash")):
        with pytest.raises(UsageError, match=part):
            model.save_model(path, {}, tiny_config, os.devnull)


def test_an_accelerator_that_is_not_there_is_no_damage():
    ran = subprocess.run(
        [sys.executable, "-m", "cada_jax", "convert", "pretrained:matched", "/none/a.pth"],
        env=os.environ | {"JAX_PLATFORMS": "cuda"}, cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 2 and len(ran.stderr.splitlines()) == 1
    assert "JAX finds no device for JAX_PLATFORMS='cuda'" in ran.stderr


@pytest.mark.parametrize("name", model.list_pretrained())
def test_every_model_that_comes_with_the_package_is_whole(name):
    assert model.load_model(name).params
