"""Associations word by word: pieces are joined, layers weighted, values ready for JSON."""

import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

import cada_jax
from cada_jax.common.errors import UsageError
from cada_jax.data.datasets.synthetic import people
from cada_jax.retrieval.association_maps import WordAssociations, associations, word_associations

TEXT = "A man with BROWNISH hair, wearing a t-shirt."


@pytest.fixture(scope="module")
def retriever():
    return cada_jax.load_model("pretrained:synthetic", jax.devices()[:1])


@pytest.fixture(scope="module")
def image():
    example = next(people.generate(people.VARIANTS["tiny"], "test"))
    return np.asarray(Image.open(io.BytesIO(example.jpeg)).convert("RGB"))


@pytest.fixture(scope="module")
def seen(retriever, image):
    return word_associations(retriever, image, TEXT)


def test_words_are_whole_and_their_maps_the_mean_of_their_pieces(retriever, image, seen):
    assert seen.words == ("a", "man", "with", "brownish", "hair", ",", "wearing", "a", "t-shirt")
    pieces = retriever.tokenizer.split("a man with brownish")[0]
    assert len(pieces) > 4  # the word is in no vocabulary of the demo: several pieces
    raw = associations(retriever, image[None], retriever.token_ids([TEXT]))
    place = slice(4, 1 + len(pieces))  # after [CLS] and three words
    expected = raw.weights[:, 0, :, place, 1:].mean(axis=2)
    shape = seen.weights.shape[1:]
    np.testing.assert_allclose(seen.weights[3], expected.reshape(shape), rtol=1e-4)
    np.testing.assert_allclose(seen.gates[3], raw.gates[:, 0, place].mean(axis=1), rtol=1e-4)


def test_the_words_of_a_phrase_share_the_relevance_of_the_whole_phrase(retriever, image, seen):
    raw = associations(retriever, image[None], retriever.token_ids([TEXT])).relevance[0, :, 1:]
    pieces = len(retriever.tokenizer.split("a man with brownish")[0])
    words = [raw[2], raw[4 : 1 + pieces].mean(axis=0), raw[1 + pieces]]
    man, color, hair = words  # [man], [brownish hair]
    shape = seen.relevance.shape[1:]
    np.testing.assert_allclose(seen.relevance[1], man.reshape(shape), rtol=1e-4)
    phrase = ((color + hair) / 2).reshape(shape)
    np.testing.assert_allclose(seen.relevance[3], phrase, rtol=1e-4)
    np.testing.assert_array_equal(seen.relevance[3], seen.relevance[4])
    np.testing.assert_allclose(seen.maps.sum(axis=(1, 2)), 1, rtol=1e-4)
    assert np.abs(seen.maps[1] - seen.weights[1].mean(axis=(0, 1))).max() > 1e-2


@pytest.mark.parametrize(("layer", "head"), [(1, None), (None, 2), (0, 0)])
def test_one_layer_or_head_can_be_chosen(retriever, image, seen, layer, head):
    one = word_associations(retriever, image, TEXT, layer, head)
    weights = seen.weights if head is None else seen.weights[:, :, head : head + 1]
    if layer is not None:
        np.testing.assert_allclose(one.maps, weights[:, layer].mean(axis=1), rtol=1e-4)
        np.testing.assert_allclose(one.gate, seen.gates[:, layer], rtol=1e-4)
    else:
        np.testing.assert_allclose(one.maps, weights.mean(axis=(1, 2)), rtol=1e-4)
        np.testing.assert_allclose(one.gate, seen.gates.mean(axis=1), rtol=1e-4)


def test_a_picture_in_which_nothing_speaks_for_the_words_has_dark_maps():
    weights, dark = np.ones((1, 2, 1, 2, 2), np.float32), np.zeros((1, 2, 2), np.float32)
    seen = WordAssociations(("a",), weights, dark, None)
    assert not seen.maps.any() and seen.plain()["tokens"][0]["gate"] is None


def test_plain_values_are_json_in_the_form_of_the_server(seen):
    plain = json.loads(json.dumps(seen.plain()))
    assert (plain["grid"], plain["layers"], plain["heads"]) == ([12, 3], 2, 3)
    token = plain["tokens"][1]
    assert token["word"] == "man" and len(token["gates"]) == 2
    assert np.shape(token["map"]) == (12, 3)


def test_words_beyond_the_models_room_are_left_out(retriever, image):
    seen = word_associations(retriever, image, "man " * 60)
    assert len(seen.words) == retriever.config.data.max_length - 2


@pytest.mark.parametrize(
    ("arguments", "part"),
    [(("...",), "at least one word"), (("a man", -1), "layer is -1, expected 0 to 1")],
)
def test_a_mistake_is_one_error(retriever, image, arguments, part):
    with pytest.raises(UsageError, match=part):
        word_associations(retriever, image, *arguments)
