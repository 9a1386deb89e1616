"""The network's TPU form computes what the plain form does, with the same parameters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.common.pytrees import flat_arrays
from cada_jax.models import cada, dropout, layers, tpu_layers
from cada_jax.objective import grad_cache
from tests.models.as_on_tpu import as_on_tpu

SHAPE = (5, 7, 32)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def test_layer_norm_and_its_gradient_are_those_of_flax():
    x, scale, bias, grad = normal(0, *SHAPE), normal(1, 32), normal(2, 32), normal(3, *SHAPE)

    def flax(x, scale, bias):
        norm = nn.LayerNorm(epsilon=1e-6, use_fast_variance=False)
        return norm.apply({"params": {"scale": scale, "bias": bias}}, x)

    expected, pull_flax = jax.vjp(flax, x, scale, bias)
    ours, pull = jax.vjp(lambda *a: tpu_layers.normalized(*a, 1e-6), x, scale, bias)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    for a, b in zip(pull(grad), pull_flax(grad), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_dense_and_its_gradient_are_those_of_flax():
    x, grad = normal(0, *SHAPE), normal(3, *SHAPE[:2], 16)
    params = layers.dense(16, "fc", jnp.float32).init(jax.random.key(1), x)

    def run(params, x):
        return layers.dense(16, "fc", jnp.float32).apply(params, x)

    expected, pull_flax = jax.vjp(run, params, x)
    with as_on_tpu():
        assert isinstance(layers.dense(16, "fc", jnp.float32), tpu_layers.Dense)
        ours, pull = jax.vjp(run, params, x)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    for a, b in zip(jax.tree.leaves(pull(grad)), jax.tree.leaves(pull_flax(grad)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_dropout_elsewhere_is_that_of_flax():
    assert type(dropout.dropout(0.1)) is nn.Dropout
    with as_on_tpu():
        assert type(dropout.dropout(0.1)) is dropout.HashedDropout


def test_dropout_of_a_tpu_drops_its_share_and_the_gradient_the_same():
    x = jnp.ones((64, 16, 32))
    rngs = {"dropout": jax.random.key(4)}

    def run(x):
        return dropout.dropout(0.25, False).apply({}, x, rngs=rngs)

    with as_on_tpu():
        ours, pull = jax.vjp(run, x)
    assert set(np.unique(ours)) == {0.0, np.float32(1 / 0.75)}
    assert np.mean(ours == 0) == pytest.approx(0.25, abs=0.01)
    np.testing.assert_array_equal(pull(x)[0], ours)
    assert len(np.unique(np.asarray(ours).reshape(64, -1), axis=0)) == 64  # rows differ


def test_a_chunk_drops_what_the_whole_batch_drops():
    x = jnp.ones((8, 4, 6))

    def run(x):
        return dropout.dropout(0.5, False).apply({}, x, rngs={"dropout": jax.random.key(4)})

    with as_on_tpu():
        whole = run(x)
        for chunk in range(2):
            with grad_cache.draws_of_chunk(jnp.int32(chunk), 2):
                part = run(x[:4])
            np.testing.assert_array_equal(part, whole[4 * chunk : 4 * chunk + 4])
        assert (np.asarray(run(x[:4])) != np.asarray(whole[4:])).any()  # negative control


def network(config, dropout_rate=0.0):
    """The smallest network with heads of 64, its parameters and inputs."""

    with config.unlocked():
        for part in (config.model.image, config.model.text):
            part.width, part.heads, part.mlp_dim, part.depth = 128, 2, 64, 1
        config.model.text.dropout = dropout_rate
    model = cada.from_config(config)
    params = cada.init_params(model, config, jax.random.key(0))
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, *config.model.image.size, 3), np.float32)
    length = config.data.max_length
    token_ids = rng.integers(5, 50, (2, length)).astype(np.int32)
    token_ids[1, length // 2 :] = config.model.tokens.pad
    return model, params, images, token_ids


def losses_of(model, params, images, token_ids, rngs=None):
    still = dict(deterministic=rngs is None, rngs=rngs)
    image_tokens = cada.apply(model, params, "encode_image", images, **still)
    texts = np.repeat(token_ids, 3, axis=0)
    index = jnp.array([[0, 1, 0]], jnp.int32)
    decoded = cada.apply(model, params, "decode", texts[:3], image_tokens, index, **still)
    masked = (token_ids, token_ids != 0, image_tokens)
    words = cada.apply(model, params, "predict_masked", *masked, **still)
    text = cada.apply(model, params, "encode_text", token_ids, **still)
    return sum(jnp.sum(jnp.sin(x)) for x in (decoded, words[..., :9], text, image_tokens))


def test_the_network_computes_the_same_and_has_the_same_gradient(tiny_config):
    given = network(tiny_config)
    model, *given = given

    def run(params, *inputs):
        return jax.value_and_grad(losses_of, argnums=1)(model, params, *inputs)

    expected = jax.jit(run)(*given)
    with as_on_tpu() as calls:
        ours = jax.jit(lambda *given: run(*given))(*given)
    assert len(set(calls)) == 3  # images; texts alone; texts that attend images, three for two
    np.testing.assert_allclose(ours[0], expected[0], rtol=1e-5)
    came = flat_arrays(ours[1])
    for name, value in flat_arrays(expected[1]).items():
        scale = np.abs(value).max() + 0.02  # a key's bias has no gradient but rounding
        np.testing.assert_allclose(came[name], value, atol=2e-5 * scale, err_msg=name)


def test_dropout_reaches_attention_and_the_key_decides(tiny_config):
    given = network(tiny_config, 0.3)
    model, *given = given
    with as_on_tpu():
        run = jax.jit(lambda seed: losses_of(model, *given, {"dropout": jax.random.key(seed)}))
        first, again, other = (float(run(seed)) for seed in (1, 1, 2))
        still = float(jax.jit(lambda: losses_of(model, *given))())
    assert first == again
    assert len({first, other, still}) == 3
