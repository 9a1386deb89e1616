"""Properties of the model: who may look at whom, what the gate does, what is shared."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.common.pytrees import flat_arrays
from cada_jax.models import cada
from cada_jax.models.bert import Packed
from cada_jax.models.layers import REMATS
from cada_jax.models.ops import random_bits
from cada_jax.models.ops.plain import FEW_LAYERS
from cada_jax.retrieval.packing import lay_out
from tests.models.as_elsewhere import as_on_gpu, as_on_tpu

LENGTH = 21


def build(config):
    """(model, params, images [3,32,16,3], token_ids [3,21] with 9, 14 and 21 real tokens)."""
    model = cada.from_config(config)
    params = cada.init_params(model, config, jax.random.key(0))
    rng = np.random.default_rng(0)
    images = rng.standard_normal((3, 32, 16, 3), np.float32)
    token_ids = np.zeros((3, LENGTH), np.int32)
    for row, count in enumerate((9, 14, LENGTH)):
        token_ids[row, :count] = rng.integers(110, 190, count)
        token_ids[row, 0], token_ids[row, count - 1] = 101, 102
    return model, params, images, jnp.asarray(token_ids)


@pytest.fixture
def setup(tiny_config):
    """What `build` returns for the tiny configuration."""
    return build(tiny_config)


@pytest.fixture(params=["full", "small"])
def either_stem(request, tiny_config):
    """The same, also with the stems that only small models have."""
    if request.param == "small":
        tiny_config.model.image.stem = tiny_config.model.text.stem = "conv"
    return build(tiny_config)


def call(model, params, method, *args, **kwargs):
    apply = functools.partial(model.apply, method=method, **kwargs)
    return jax.jit(apply)({"params": params}, *args)


def test_padding_cannot_leak_into_enc(either_stem):
    model, params, images, token_ids = either_stem
    _, tokens = call(model, params, "encode_image", images)

    def enc(length):
        return call(model, params, "decode", token_ids[:2, :length], tokens[:2])[:, 0]

    np.testing.assert_allclose(enc(14), enc(LENGTH), rtol=1e-5, atol=1e-6)


def test_gradient_of_enc_with_respect_to_padding_is_zero(either_stem):
    model, params, images, token_ids = either_stem
    _, tokens = call(model, params, "encode_image", images)
    valid = token_ids != 0

    def enc(bias):
        # Positions are inputs of every token: moving those of padding must not move [ENC].
        moved = flax.traverse_util.flatten_dict(params)
        key = ("text_encoder", "pos_embed", "embedding")
        moved[key] = moved[key] + bias
        moved = flax.traverse_util.unflatten_dict(moved)
        decoded = model.apply({"params": moved}, token_ids[:1], tokens[:1], method="decode")
        return jnp.sum(decoded[0, 0] ** 3)

    grads = np.abs(jax.jit(jax.grad(enc))(jnp.zeros((32, 32)))).sum(axis=1)
    real = int(valid[0].sum())
    assert np.all(grads[:real] > 0)
    assert np.all(grads[real:] == 0)


@pytest.mark.parametrize("causal", [True, False])
def test_attribute_decoder_is_causal_by_gradient(tiny_config, either_stem, causal):
    _, params, images, token_ids = either_stem
    tiny_config.ara.causal = causal
    model = cada.from_config(tiny_config)
    _, tokens = call(model, params, "encode_image", images)
    at = 5

    def logit(bias):
        moved = flax.traverse_util.flatten_dict(params)
        key = ("attribute_decoder", "bert", "pos_embed", "embedding")
        moved[key] = moved[key] + bias
        moved = flax.traverse_util.unflatten_dict(moved)
        seen = token_ids[2:], token_ids[2:] != 0, tokens[2:]
        out = model.apply({"params": moved}, *seen, method="decode_masked")
        return jnp.sum(out[0, at] ** 3)

    grads = np.abs(jax.jit(jax.grad(logit))(jnp.zeros((32, 32)))).sum(axis=1)
    assert np.all(grads[: at + 1] > 0)
    later = grads[at + 1 : LENGTH]
    assert np.all(later == 0) if causal else np.all(later > 0)


def test_gate_is_exactly_one_at_the_start_and_acts_when_moved(tiny_config, setup):
    model, params, images, token_ids = setup
    tiny_config.atp.gate = "off"
    ungated = cada.from_config(tiny_config)
    flat = flax.traverse_util.flatten_dict(params)
    bare = {k: v for k, v in flat.items() if "gate" not in k}
    assert len(bare) == len(flat) - 2
    bare = flax.traverse_util.unflatten_dict(bare)
    _, tokens = call(model, params, "encode_image", images)
    gated_out = call(model, params, "decode", token_ids, tokens)
    assert np.array_equal(gated_out, call(ungated, bare, "decode", token_ids, tokens))
    flat[("text_encoder", "layers", "gate", "bias")] += 1.0
    moved = flax.traverse_util.unflatten_dict(flat)
    assert not np.allclose(gated_out, call(model, moved, "decode", token_ids, tokens), atol=1e-4)


def test_gate_is_learned_per_token(setup):
    model, params, images, token_ids = setup
    flat = flax.traverse_util.flatten_dict(params)
    key = ("text_encoder", "layers", "gate", "kernel")
    flat[key] = jax.random.normal(jax.random.key(1), flat[key].shape)
    params = flax.traverse_util.unflatten_dict(flat)
    _, tokens = call(model, params, "encode_image", images)
    _, seen = call(model, params, "decode", token_ids, tokens, mutable=["intermediates"])
    gate = seen["intermediates"]["text_encoder"]["layers"]["gate"]["gate"][0]
    assert gate.shape == (2, 3, LENGTH, 1)
    assert np.all((gate > 0) & (gate < 2))
    assert np.std(gate[0, 2, :, 0]) > 0.05


def test_cross_attention_weights_are_sown_and_sum_to_one(setup):
    model, params, images, token_ids = setup
    _, tokens = call(model, params, "encode_image", images)
    _, seen = call(model, params, "decode", token_ids, tokens, mutable=["intermediates"])
    weights = seen["intermediates"]["text_encoder"]["layers"]["cross"]["cross_attention"][0]
    assert weights.shape == (2, 3, 2, LENGTH, tokens.shape[1])
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)


def test_image_index_equals_repeating_the_images(setup):
    model, params, images, token_ids = setup
    _, tokens = call(model, params, "encode_image", images)
    index = jnp.array([2, 0, 1, 1], jnp.int32)
    texts = token_ids[jnp.array([0, 1, 2, 0])]
    shared = call(model, params, "decode", texts, tokens, index[None])
    repeated = call(model, params, "decode", texts, tokens[index])
    np.testing.assert_allclose(shared, repeated, rtol=1e-5, atol=1e-6)


def test_packed_texts_score_what_they_score_alone(either_stem):
    """Two rows of texts an image, in any order; what lies in the gaps is not seen."""
    model, params, images, token_ids = either_stem
    tokens = call(model, params, "encode_image", images)[1][:2]
    lengths = np.array([9, 14, LENGTH])
    text = np.array([[2, 0], [1, -1], [0, 1], [-1, 2]])  # two rows of each image
    start = np.array([[0, 24], [3, 0], [1, 12], [0, 8]])
    rows = lay_out(np.asarray(token_ids), lengths, text, start, length=40, pad=0)
    noise = np.random.default_rng(1).integers(110, 190, rows.token_ids.shape)
    ids = np.where(rows.segments < 0, noise, rows.token_ids)
    packed = Packed(rows.segments, rows.positions, jnp.asarray(start))
    together = call(model, params, "match_packed", ids, packed, tokens)
    for row, number in np.argwhere(text >= 0):
        alone = token_ids[text[row, number]][None], tokens[row // 2][None]
        decoded = call(model, params, "decode", *alone)
        expected = call(model, params, "match", decoded)[0]
        np.testing.assert_allclose(together[row, number], expected, rtol=1e-5, atol=1e-6)


def test_decoder_and_text_encoder_share_their_weights(setup):
    model, params, _, token_ids = setup
    flat = flax.traverse_util.flatten_dict(params)
    for key in flat:
        if key[:3] == ("text_encoder", "layers", "cross") and key[-2] == "out":
            flat[key] = jnp.zeros_like(flat[key])
        if key[:3] == ("text_encoder", "layers", "cross_norm"):
            flat[key] = jnp.full_like(flat[key], float(key[-1] == "scale"))
    silent = flax.traverse_util.unflatten_dict(flat)
    tokens = jnp.zeros((3, 9, 32))
    enc_ids = token_ids.at[:, 0].set(199)
    decoded = call(model, silent, "decode", token_ids, tokens)
    _, encoded = call(model, silent, "encode_text", enc_ids)
    # With a silent cross-attention only its LayerNorm (of already normalised rows) remains.
    np.testing.assert_allclose(decoded, encoded, atol=2e-5)


def test_remat_gives_the_same_gradients_and_keeps_less(tiny_config):
    """Of layers in a loop, as at full size."""
    tiny_config.model.image.depth = tiny_config.model.text.depth = FEW_LAYERS + 1
    _, params, images, token_ids = build(tiny_config)

    def grads(module):
        def loss(p):
            _, tokens = module.apply({"params": p}, images, method="encode_image")
            return jnp.sum(module.apply({"params": p}, token_ids, tokens, method="decode") ** 2)

        compiled = jax.jit(jax.grad(loss)).lower(params).compile()
        return compiled(params), compiled.memory_analysis().temp_size_in_bytes

    found = {}
    for how in REMATS:
        tiny_config.model.remat = how
        found[how] = grads(cada.from_config(tiny_config))
    for how in REMATS[1:]:
        for a, b in zip(*(jax.tree.leaves(found[x][0]) for x in ("off", how)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    off, light, full = (found[how][1] for how in REMATS)
    assert full < light < off


def losses_of(model, params, images, token_ids, key=None):
    """A number that everything in the network bears on; dropout by a key."""

    def seeds(rows):
        return None if key is None else random_bits.row_seeds(key, jnp.arange(rows))

    apply = functools.partial(cada.apply, model, params)
    _, tokens = apply("encode_image", images, seeds=seeds(3))
    index = jnp.array([[0, 1, 0], [1, 2, 2]], jnp.int32).reshape(1, 6)
    texts = token_ids[jnp.array([0, 0, 1, 1, 1, 2])]
    decoded = apply("decode", texts, tokens, index, seeds=seeds(6))
    masked = apply("decode_masked", token_ids, token_ids != 0, tokens, seeds=seeds(3))
    words = apply("masked_logits", masked)
    _, text = apply("encode_text", token_ids, seeds=seeds(3))
    return sum(jnp.sum(jnp.sin(x)) for x in (decoded, words[..., :9], text, tokens))


def test_dropout_and_drop_path_act_only_when_asked_and_by_their_key(tiny_config):
    tiny_config.model.text.dropout = 0.3
    model, *given = build(tiny_config)
    run = jax.jit(lambda key: losses_of(model, *given, key))
    first, again, other = (float(run(jax.random.key(i))) for i in (1, 1, 2))
    still = float(jax.jit(lambda: losses_of(model, *given))())
    assert first == again and len({first, other, still}) == 3
    tiny_config.model.text.dropout = 0.0
    assert float(losses_of(cada.from_config(tiny_config), *given, jax.random.key(1))) == (
        pytest.approx(still, rel=1e-5)
    )
    tiny_config.model.image.drop_path = 0.5
    paths = losses_of(cada.from_config(tiny_config), *given, jax.random.key(1))
    assert float(paths) != pytest.approx(still, rel=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("elsewhere", "kernels"), [(as_on_tpu, 3), (as_on_gpu, 3)])
def test_other_platforms_compute_the_same_with_the_same_masks_and_gradient(
    tiny_config, elsewhere, kernels, dropout
):
    with tiny_config.unlocked():
        for part in (tiny_config.model.image, tiny_config.model.text):
            part.width, part.heads, part.mlp_dim, part.depth = 128, 2, 64, 1
        tiny_config.model.text.dropout = dropout
    model, *given = build(tiny_config)

    def run(params, *inputs):
        key = jax.random.key(5)
        return jax.value_and_grad(losses_of, argnums=1)(model, params, *inputs, key)

    expected = jax.jit(run)(*given)
    with elsewhere() as calls:
        ours = jax.jit(lambda *given: run(*given))(*given)
    # On a TPU of three sizes: images; texts alone; texts that attend images.
    assert len(set(calls)) == kernels
    np.testing.assert_allclose(ours[0], expected[0], rtol=1e-5)
    came = flat_arrays(ours[1])
    for name, value in flat_arrays(expected[1]).items():
        scale = np.abs(value).max() + 0.02  # a key's bias has no gradient but rounding
        np.testing.assert_allclose(came[name], value, atol=2e-5 * scale, err_msg=name)


def test_bfloat16_stays_close_to_float32(tiny_config, setup):
    model, params, images, _ = setup
    tiny_config.model.dtype = "bfloat16"
    half = cada.from_config(tiny_config)
    _, full = call(model, params, "encode_image", images)
    _, rough = call(half, params, "encode_image", images)
    assert rough.dtype == jnp.bfloat16
    error = np.linalg.norm(rough.astype(np.float32) - full) / np.linalg.norm(full)
    assert 0 < error < 0.05


def test_full_size_has_the_published_number_of_parameters(load_config):
    config = load_config("default")
    config.atp.gate = "off"
    model = cada.from_config(config)
    shapes = jax.eval_shape(lambda k: cada.init_params(model, config, k), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 361_335_104
    config.atp.gate = "token"
    model = cada.from_config(config)
    shapes = jax.eval_shape(lambda k: cada.init_params(model, config, k), jax.random.key(0))
    extra = 12 * (2 * 768 + 1)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 361_335_104 + extra


def test_images_of_another_size_are_refused(setup):
    model, params, images, _ = setup
    with pytest.raises(ValueError, match="16x16, the model expects 32x16"):
        model.apply({"params": params}, images[:, :16], method="encode_image")
