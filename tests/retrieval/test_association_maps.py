"""Pictures are checked by their pixels, association maps by the attention they come from."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cada_jax.evaluation import picture as picture_lib
from cada_jax.evaluation.picture import RIGHT, WRONG, Example, Hit, choose_examples
from cada_jax.models.cada import apply, from_config, init_params
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.network import abstract_network
from cada_jax.retrieval import association_picture
from cada_jax.retrieval.association_maps import associations


def _image(colour, size=(48, 96)):
    return Image.new("RGB", size, colour)


def _count(picture, colour):
    return int(np.all(np.asarray(picture) == colour, axis=-1).sum())


def _example(rights, caption="a man in a red coat", **options):
    hits = [Hit(_image("white"), right, **options) for right in rights]
    return Example(caption, "", _image("grey"), hits)


def test_every_right_image_is_framed_green_and_every_wrong_one_red():
    one_right = picture_lib.retrieval_picture([_example([True, False, False])], "t")
    two_right = picture_lib.retrieval_picture([_example([True, True, False])], "t")
    assert one_right.size == two_right.size
    frame = _count(two_right, RIGHT) / 2
    assert frame > 1000
    assert _count(one_right, RIGHT) == pytest.approx(frame, rel=0.02)
    assert _count(one_right, WRONG) == pytest.approx(2 * _count(two_right, WRONG), rel=0.2)


def test_the_described_image_is_underlined_among_the_hits():
    plain = picture_lib.retrieval_picture([_example([True])], "t")
    marked = picture_lib.retrieval_picture([_example([True], own=True)], "t")
    assert _count(plain, picture_lib.OWN) == 0
    assert _count(marked, picture_lib.OWN) > 100


@pytest.mark.parametrize("words", [1, 40, 120])
@pytest.mark.parametrize("word", ["coat", "x" * 60])
def test_captions_stay_in_their_column(words, word):
    caption = " ".join([word] * words)
    picture = picture_lib.retrieval_picture([_example([True], caption)] * 2, "t")
    pixels = np.asarray(picture.convert("L"))
    beyond = picture_lib.MARGIN + picture_lib.CAPTION_WIDTH
    top = 120  # below the title
    gap = pixels[top:, beyond + 2 : beyond + 2 * picture_lib.GAP]
    ink = pixels[top:, :beyond]
    assert (ink < 100).sum() > 20
    assert gap.min() > 200  # the light rule between rows, no letters


def test_images_keep_their_shape():
    wide = Example("c", "", _image("grey"), [Hit(_image("black", (96, 48)), True)])
    tall = [Hit(_image("white"), True)] * 3
    picture = picture_lib.retrieval_picture([wide, Example("c", "", _image("grey"), tall)], "t")
    black = np.argwhere(np.all(np.asarray(picture) == 0, axis=-1))
    height, width = black.max(axis=0) - black.min(axis=0) + 1
    assert width / height == pytest.approx(2, rel=0.1)


def test_chosen_queries_are_a_mix_and_always_the_same():
    before = np.array([0] * 50 + [3] * 30 + [2] * 20)
    after = np.array([0] * 50 + [0] * 30 + [4] * 20)
    chosen = choose_examples(before, after, 8)
    assert chosen == choose_examples(before, after, 8)
    kinds = [0 if q < 50 else 1 if q < 80 else 2 for q in chosen]
    assert kinds == [0, 0, 0, 0, 1, 1, 2, 2]


def test_a_rare_kind_is_filled_up_and_queries_without_answer_stay_out():
    before = np.array([0] * 9 + [-1] * 5)
    chosen = choose_examples(before, before.copy(), 8)
    assert len(set(chosen)) == 8
    assert max(chosen) < 9
    assert choose_examples(np.array([2, -1]), np.array([1, -1]), 8) == [0]


@pytest.fixture(scope="module")
def made_once():
    return {}


@pytest.fixture
def pairs(tiny_config, made_once):
    """A function: (gate switch, change of the parameters) -> network, images, texts of 3 pairs."""

    def make(gate="token", edit=lambda params: params):
        if not made_once:
            model = from_config(tiny_config)
            init = jax.jit(lambda key: init_params(model, tiny_config, key))
            made_once["params"] = jax.tree.map(lambda x: 4.0 * x, init(jax.random.key(0)))
        tiny_config.atp.gate = gate
        params = edit(jax.tree.map(lambda x: x, made_once["params"]))
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (3, 32, 16, 3), dtype=np.uint8)
        token_ids = np.zeros((3, 21), np.int32)
        token_ids[:, :9] = rng.integers(104, 190, (3, 9))
        network = abstract_network(tiny_config, jax.devices()[:1]).with_params(params)
        return network, images, token_ids

    return make


def test_associations_are_the_decoders_attention(pairs):
    found = associations(*pairs())
    assert found.weights.shape == (2, 3, 2, 21, 1 + 4 * 2)  # 32x16 in 8x8 patches
    np.testing.assert_allclose(found.weights.sum(axis=-1), 1, rtol=1e-5)
    assert found.weights.std() > 1e-3  # not the uniform one
    np.testing.assert_array_equal(found.gates, np.ones((2, 3, 21)))  # as at the start


def test_relevance_is_attention_times_what_the_match_logit_gains_by_it(pairs):
    """Against differences: each weight of a token and a patch is moved a little."""
    network, images, token_ids = pairs()
    found = associations(network, images, token_ids)
    assert found.relevance.shape == (3, 21, 9) and (found.relevance >= 0).all()
    _, tokens = apply(network.model, network.params, "encode_image", normalize_pixels(images))

    @jax.jit
    def logit(at, by):
        moved = jnp.zeros(found.weights.shape).at[tuple(at)].add(by)
        added = {"text_encoder": {"layers": {"cross": {"cross_attention": moved}}}}
        variables = {"params": network.params, "perturbations": added}
        decoded, _ = network.model.apply(
            variables, token_ids, tokens, method="decode", mutable=["intermediates"]
        )
        return apply(network.model, network.params, "match", decoded)[at[1], 1]

    step = 1e-2
    for pair, token, patch in ((0, 0, 3), (1, 4, 5), (2, 7, 1)):
        expected = 0.0
        for layer, head in itertools.product(range(2), range(2)):
            at = jnp.array([layer, pair, head, token, patch])
            slope = float(logit(at, step) - logit(at, -step)) / (2 * step)
            expected += found.weights[tuple(at)] * max(slope, 0.0) / 2
        assert found.relevance[pair, token, patch] == pytest.approx(expected, rel=0.02, abs=1e-6)


def test_a_model_without_gates_has_none(pairs):
    assert associations(*pairs("off")).gates is None


def test_gates_that_moved_show(pairs):
    def close(params):
        text = params["text_encoder"]
        text["layers"]["gate"]["bias"] = text["layers"]["gate"]["bias"] - 1.0
        return params

    np.testing.assert_allclose(
        associations(*pairs("token", close)).gates, 2 / (1 + np.e), rtol=1e-5
    )


def test_heat_shows_where_the_token_looks():
    image = _image((128, 128, 128), (64, 64))
    for row, column in itertools.product(range(2), range(2)):
        maps = np.zeros((1, 2, 2))
        maps[0, row, column] = 1
        picture = np.asarray(
            association_picture.association_picture(image, ["coat"], maps), np.float32
        )
        size = association_picture.TILE_HEIGHT
        left = association_picture.MARGIN + size + association_picture.GAP
        tile = picture[association_picture.MARGIN :][:size, left : left + size]
        redness = (tile[..., 0] - tile[..., 2]).reshape(2, size // 2, 2, size // 2).mean((1, 3))
        assert np.unravel_index(redness.argmax(), (2, 2)) == (row, column)
