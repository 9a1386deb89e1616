"""Match logits averaged over an image and its mirror image."""

import jax
import numpy as np
import pytest

from cada_jax.distributed.mesh import make_mesh
from cada_jax.evaluation.evaluate import evaluate_split
from cada_jax.models.cada import from_config, init_params
from cada_jax.network import Network
from cada_jax.retrieval import encode, mirror, rerank
from tests.config.values import refusal, with_values
from tests.noise import NoiseData


@pytest.fixture
def network(tiny_config):
    """Random parameters, larger than at the start of training: scores differ visibly."""
    tiny_config.eval.batch_size, tiny_config.eval.rerank_batch = 4, 8
    tiny_config.eval.rerank_top_k = 3
    tiny_config.model.image.depth = tiny_config.model.text.depth = 1
    model = from_config(tiny_config)
    params = jax.jit(lambda key: init_params(model, tiny_config, key))(jax.random.key(0))
    params = jax.tree.map(lambda x: 3 * x, params)
    return Network(tiny_config, make_mesh(tiny_config.mesh, jax.devices()[:1]), model, params)


@pytest.fixture
def texts(tiny_config):
    ids = np.random.default_rng(1).integers(110, 190, (3, 21)).astype(np.int32)
    ids[:, 0], ids[:, 9], ids[:, 10:] = 101, 102, 0
    return ids


def logits_of(network, texts, images, mirrored):
    """Of every text with every image, as an evaluation computes them."""
    rows = {"image": images, "pid": np.arange(4), "valid": np.ones(4, bool)}
    gallery = encode.encode_gallery(network, [rows], 4)
    text, image = (index.reshape(-1) for index in np.indices((len(texts), 4)))
    pairs = rerank.Pairs(texts, gallery.tokens, text, image)
    if not mirrored:
        return rerank.match_pairs(network, pairs)
    reflected = encode.encode_gallery(network, mirror.mirrored([rows]), 4)
    return mirror.match_both(reflected.tokens)(network, pairs)


def pictures(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (4, 32, 16, 3), dtype=np.uint8)


def test_symmetric_images_score_what_they_score_without(network, texts):
    half = pictures()[:, :, :8]
    symmetric = np.concatenate([half, half[:, :, ::-1]], axis=2)
    plain, both = (logits_of(network, texts, symmetric, m) for m in (False, True))
    np.testing.assert_array_equal(plain, both)
    # A picture that is not symmetric scores otherwise, or the comparison would say nothing.
    assert np.abs(np.subtract(*(logits_of(network, texts, pictures(), m) for m in (0, 1)))).max()


def test_an_image_and_its_mirror_image_score_alike(network, texts):
    images = pictures()
    ours, theirs = (logits_of(network, texts, x, True) for x in (images, images[:, :, ::-1]))
    np.testing.assert_array_equal(ours, theirs)
    plain, reflected = (logits_of(network, texts, x, False) for x in (images, images[:, :, ::-1]))
    assert np.abs(plain - reflected).max() > 1e-3
    np.testing.assert_allclose(ours, (plain + reflected) / 2, rtol=1e-6)


def test_only_the_image_of_a_batch_is_flipped():
    rows = {"image": pictures(), "pid": np.arange(4), "valid": np.array([True, True, True, False])}
    (flipped,) = mirror.mirrored([rows])
    np.testing.assert_array_equal(flipped["image"][:, :, 0], rows["image"][:, :, -1])
    np.testing.assert_array_equal(flipped["image"][:, ::-1, ::-1], rows["image"][:, ::-1])
    assert flipped["pid"] is rows["pid"] and flipped["valid"] is rows["valid"]


def test_an_evaluation_changes_its_logits_and_nothing_of_stage_one(network, tmp_path):
    split = NoiseData(network.config, tmp_path).splits["test"]
    plain = evaluate_split(network, split, image_to_text=True, quiet=True)
    network.config.eval.mirror = True
    both = evaluate_split(network, split, image_to_text=True, quiet=True)
    assert both.results["mirror"] is True and "mirror" not in plain.results
    assert both.results["global"] == plain.results["global"]
    found = [x.ranking.retrieved for x in (plain, both)]
    np.testing.assert_array_equal(found[0].similarity, found[1].similarity)
    assert np.abs(found[0].match_logit - found[1].match_logit).max() > 1e-3


def test_nothing_to_average_is_refused():
    values = {"eval.mirror": True, "eval.rerank_top_k": 0, "eval.select_metric": "global/R1"}
    text = refusal(with_values(values))
    assert text.startswith("config.eval.mirror is True; allowed: False with config.eval.rerank_top")
    assert refusal(with_values(values | {"eval.image_to_text_top_k": 4})) is None
