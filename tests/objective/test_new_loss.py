"""CONTRIBUTING's example: a loss over rows of one's own, added in one place."""

import jax
import jax.numpy as jnp
import numpy as np

from cada_jax.models.cada import apply, from_config, init_params
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.objective import objective
from cada_jax.objective.row_loss import RowLoss, normalized_weights
from tests.conftest import tiny_config_of_steps
from tests.distributed.test_sharding import batch_for


def prepare(config, batch, encoded, keys, gather):
    """What each row reads: its image, and whether its person is an even one."""
    even = (batch["pid"] % 2 == 0).astype(jnp.float32)
    return encoded.image_tokens, normalized_weights(even)


def terms(model, config, params, inputs):
    """The squared length of the embeddings of even persons' images, their mean."""
    tokens, weights = inputs
    embeddings = apply(model, params, "project_image", jnp.mean(tokens, axis=1))
    loss = jnp.sum(jnp.sum(jnp.square(embeddings), axis=1) * weights)
    return loss, {"length": loss}


LENGTH = RowLoss("length_weight", lambda config: config.loss.length_weight > 0, prepare, terms)


def gradient_of(weight, chunks=1):
    config = tiny_config_of_steps()
    config.train.accumulation = chunks
    with config.unlocked():
        config.loss.length_weight = weight
    model = from_config(config)
    params = jax.jit(lambda key: init_params(model, config, key))(jax.random.key(1))
    batch = batch_for(config)
    batch = batch | {"image": normalize_pixels(batch["image"])}
    run = jax.value_and_grad(objective.loss_terms, argnums=2, has_aux=True)
    return jax.jit(lambda p, b: run(model, config, p, b, jax.random.key(3)))(params, batch)


def test_a_new_loss_is_weighed_reported_and_the_same_in_chunks(monkeypatch):
    monkeypatch.setattr(objective, "ROW_LOSSES", (*objective.ROW_LOSSES, LENGTH))
    (without, terms), _ = gradient_of(0.0)
    assert "length" not in terms
    (total, terms), gradient = gradient_of(3.0)
    np.testing.assert_allclose(total, without + 3 * terms["length"], rtol=1e-5)
    (chunked, _), of_chunks = gradient_of(3.0, chunks=2)
    np.testing.assert_allclose(chunked, total, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(of_chunks), jax.tree.leaves(gradient), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b) + 1e-6
