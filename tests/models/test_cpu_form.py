"""The network's CPU form computes what the plain form does, with the same parameters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.config import default_config
from cada_jax.distributed import mesh as mesh_lib
from cada_jax.models import cada, vit
from cada_jax.models.cpu_layers import FEW_CHANNELS, StridedConv
from cada_jax.objective import association, losses


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def on_one_cpu():
    """JAX's context as inside a program of one CPU: the network's form is chosen by the mesh."""
    return mesh_lib.traced_on(mesh_lib.make_mesh(default_config().mesh, jax.devices()[:1]))


def assert_alike(run, plain, *inputs):
    """Equal values of equal trees, and equal gradients of every input."""

    def value_and_gradient(function):
        value, pull = jax.vjp(function, *inputs)
        return value, pull(jax.tree.map(lambda x: normal(9, *x.shape), value))

    ours, expected = (jax.jit(value_and_gradient, static_argnums=0)(f) for f in (run, plain))
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(y).max()))


@pytest.mark.parametrize(
    "shape",
    [(2, 2, 2, 3), (1, 4, 6, 3), (3, 8, 2, 1), (2, 12, 10, 8), (1, 2, 2, 9), (2, 12, 10, 24)],
)
def test_the_strided_convolution_is_that_of_flax(shape):
    plain, ours = nn.Conv(7, (3, 3), strides=2), StridedConv(7)
    x = normal(0, *shape)
    params = plain.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(1), x), params)
    assert_alike(ours.apply, plain.apply, params, x)


def test_the_stem_on_a_cpu_is_the_plain_one():
    stem, x = vit.ConvStem((4, 6)), normal(0, 2, 8, 12, 3)
    params = stem.init(jax.random.key(1), x)

    def on_cpu(params, x):
        with on_one_cpu():
            return stem.apply(params, x)

    with on_one_cpu():
        text = str(jax.make_jaxpr(stem.apply)(params, x))
        again = stem.init(jax.random.key(1), x)
    assert text.count("conv_general_dilated[") == 0  # 3 and 4 channels: products
    assert str(jax.make_jaxpr(stem.apply)(params, x)).count("conv_general_dilated[") == 2
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert_alike(on_cpu, stem.apply, params, x)


def test_a_convolution_of_many_channels_stays_one_but_for_its_kernels_gradient():
    conv, x = StridedConv(7), normal(0, 2, 8, 6, FEW_CHANNELS + 1)
    params = conv.init(jax.random.key(1), x)
    text = str(jax.make_jaxpr(jax.grad(lambda *args: conv.apply(*args).sum(), (0, 1)))(params, x))
    # Forward, and the gradient of the pixels.
    assert text.count("conv_general_dilated[") == 2


def small_model(depth=2, gate="token", stem="conv"):
    """(model, params, token ids [4,10], image tokens [3,7,16]) of a small network."""
    config = default_config()
    config.atp.gate = gate
    config.data.update(image_size=(24, 12), max_length=11)
    config.model.image.update(patch=(12, 6), width=16, depth=1, heads=2, mlp_dim=24)
    config.model.text.update(vocab_size=50, width=16, depth=depth, heads=2, mlp_dim=24, stem=stem)
    config.model.text.update(dropout=0.0)
    config.model.tokens.update(pad=0, cls=1, sep=2, mask=3, dec=4, enc=5)
    config.model.embed_dim = 16
    model = cada.from_config(config)
    params = jax.jit(lambda key: cada.init_params(model, config, key))(jax.random.key(0))
    rng = np.random.default_rng(0)
    token_ids = rng.integers(6, 50, (4, 10)).astype(np.int32)
    token_ids[:, 0], token_ids[1, 6:], token_ids[3, 2:] = 1, 0, 0
    # A gate of zeros at the start would hide what is wrong beside it.
    params = jax.tree.map(lambda x: x + 0.1 * normal(5, *x.shape), params)
    return model, params, token_ids, normal(2, 3, 7, 16)


@pytest.mark.parametrize(
    ("depth", "gate", "stem"), [(1, "token", "conv"), (2, "off", "conv"), (3, "token", "embed")]
)
def test_texts_attended_once_are_decoded_as_texts_attended_every_time(depth, gate, stem):
    model, params, ids, images = small_model(depth, gate, stem)
    texts, index = jnp.array([0, 1, 2, 3, 1, 1, 0]), jnp.array([0, 1, 2, 0, 1, 0, 2])

    def plain(params, images):
        return cada.apply(model, params, "decode", ids[texts], images, index)

    def once(params, images):
        attended = cada.apply(model, params, "attend_text", ids)[texts]
        return cada.apply(model, params, "decode_attended", attended, ids[texts] > 0, images, index)

    assert_alike(once, plain, params, images)


@pytest.mark.parametrize(("depth", "stem"), [(1, "conv"), (2, "embed"), (6, "conv")])
def test_a_texts_embedding_is_that_of_all_its_tokens(depth, stem):
    model, params, ids, _ = small_model(depth, stem=stem)

    def plain(params):
        tokens = cada.apply(model, params, "encode_text", ids)
        return cada.apply(model, params, "project_text", tokens)

    def first_alone(params):
        return cada.apply(model, params, "embed_text", ids)

    assert_alike(first_alone, plain, params)


def test_the_matching_loss_on_a_cpu_is_the_plain_one():
    model, params, ids, images = small_model()
    negatives = losses.Negatives(*(jnp.array(x) for x in ([1, 2, 0], [2, 0, 1], [1.0, 0.0, 1.0])))
    texts = association.pairs_to_match(ids[:3], negatives)
    image_index, text_index = association.indices_to_match(negatives)

    def terms(params, images):
        given = texts._replace(text_index=text_index), images, image_index
        return association.match_terms(model, params, *given, None)

    def on_cpu(params, images):
        with on_one_cpu():
            assert model.splits_layers()
            return terms(params, images)

    assert not model.splits_layers()  # no mesh: the plain form
    assert_alike(on_cpu, terms, params, images)
    np.testing.assert_array_equal(ids[:3][text_index], texts.token_ids)
