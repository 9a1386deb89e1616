"""Re-ranking on a CPU attends every text by itself once; the logits are the plain form's."""

import jax
import numpy as np
import pytest

from cada_jax.config import default_config
from cada_jax.retrieval import rerank
from cada_jax.retrieval.network import abstract_network


@pytest.fixture(scope="module", params=[1, 2])
def network(request):
    config = default_config()
    config.data.update(image_size=(24, 12), max_length=31)
    config.model.image.update(patch=(12, 6), width=16, depth=1, heads=2, mlp_dim=24)
    config.model.text.update(vocab_size=50, width=16, depth=request.param, heads=2, mlp_dim=24)
    config.model.text.update(stem="conv", dropout=0.0)
    config.model.tokens.update(pad=0, cls=1, sep=2, mask=3, dec=4, enc=5)
    config.eval.update(batch_size=3, rerank_batch=40)
    network = abstract_network(config, jax.devices()[:1])
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: rng.normal(0.1, 0.3, x.shape).astype("f4"), network.params)
    return network.with_params(params)


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    token_ids = rng.integers(6, 50, (7, 31)).astype(np.int32)
    lengths = rng.integers(3, 32, 7)
    token_ids[np.arange(31)[None] >= lengths[:, None]] = 0
    token_ids[:, 0] = 1
    images = rng.standard_normal((5, 5, 16)).astype(np.float32)
    return rerank.Pairs(token_ids, images, *rng.integers(0, (7, 5), (60, 2)).T)


def test_logits_are_those_of_texts_attended_for_every_image(network, pairs, monkeypatch):
    assert rerank.attends_once(network, pairs)
    once = rerank.match_pairs(network, pairs)
    monkeypatch.setattr(rerank, "attends_once", lambda *_: False)
    every_time = rerank.match_pairs(network, pairs)
    assert np.ptp(every_time) > 0.01
    np.testing.assert_allclose(once, every_time, rtol=1e-5, atol=1e-5)


def test_what_would_take_too_much_memory_is_attended_every_time(network, pairs, monkeypatch):
    size = 4 * pairs.token_ids.size * 16
    monkeypatch.setattr(rerank, "MOST_ATTENDED", size)
    assert rerank.attends_once(network, pairs)
    monkeypatch.setattr(rerank, "MOST_ATTENDED", size - 1)
    assert not rerank.attends_once(network, pairs)
