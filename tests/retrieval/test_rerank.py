"""Re-ranking packs texts beside their images; the logits are those of each pair alone."""

import jax
import numpy as np
import pytest

from cada_jax.config import default_config
from cada_jax.models.cada import apply
from cada_jax.network import abstract_network
from cada_jax.retrieval import rerank


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


@pytest.mark.parametrize("steady", [False, True])
def test_logits_are_those_of_each_pair_decoded_alone(network, pairs, steady):
    """However texts are packed beside their image; some lie in no batch's first row."""

    @jax.jit
    def alone(params, texts, images):
        decoded = apply(network.model, params, "decode", texts, images)
        return apply(network.model, params, "match", decoded)[:, 1]

    texts, images = pairs.token_ids[pairs.text_index], pairs.image_tokens[pairs.image_index]
    expected = alone(network.params, texts, images)
    assert np.ptp(expected) > 0.01
    found = rerank.match_pairs(network, pairs, steady=steady)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
