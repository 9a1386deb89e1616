"""A network of random weights, and the captions that it is measured on."""

import jax
import pytest

from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from cada_jax.data.split import load_split
from cada_jax.models.cada import init_params
from cada_jax.network import abstract_network
from cada_jax.retriever import Retriever
from cada_jax.text.tokenizer import Tokenizer
from tests.conftest import _load_config
from tools.probing import (
    subject,
    word_classes,
)


def small_config(data_dir: str):
    """The demo's configuration with the smallest network, on the tiny set."""
    config = _load_config("synthetic")
    config.data.update(variant="tiny", data_dir=data_dir)
    for part in (config.model.image, config.model.text):
        part.width, part.depth, part.heads, part.mlp_dim = 24, 2, 2, 32
    config.model.embed_dim = 16
    config.train.batch_size = 16
    config.eval.batch_size = 32
    config.eval.rerank_top_k = 4
    return config


def make_retriever(config) -> Retriever:
    network = abstract_network(config)
    params = jax.jit(lambda key: init_params(network.model, config, key))(jax.random.key(0))
    network = network.with_params(params)
    return Retriever(config, network.mesh, network.model, network.params, Tokenizer(VOCAB_PATH))


@pytest.fixture(scope="session")
def one(tmp_path_factory) -> subject.Subject:
    """A network of random weights and the 48 captions of the tiny test split."""
    config = small_config(str(tmp_path_factory.mktemp("data")))
    split = load_split(config, "test")
    return subject.make_subject("random", make_retriever(config), split, None)


@pytest.fixture(scope="session")
def words(one) -> word_classes.Words:
    return words_of(one)


def words_of(one: subject.Subject) -> word_classes.Words:
    attribute = (one.split.phrase_ids > 0) | one.split.attribute_mask
    tokenizer, chosen = one.retriever.tokenizer, one.chosen
    return word_classes.classify_tokens(one.texts, tokenizer, one.token_ids, attribute[chosen])
