"""Attributes read off the attribute decoder: what is drawn is what is read, and only there."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

import cada_jax
from cada_jax.common.errors import UsageError
from cada_jax.data.datasets.synthetic import people
from cada_jax.data.datasets.synthetic.camera import visible
from cada_jax.retrieval import attribute_reading
from cada_jax.retrieval.attribute_prompts import PARTS, Part
from cada_jax.retrieval.attribute_reading import read_attributes
from cada_jax.retriever import Retriever

COUNT = 24
FIELDS = {
    "hair": "hair_color",
    "top": "top_color",
    "bottom": "bottom_color",
    "shoes": "shoes_color",
}
SPELT = {"gray": "grey"}


@pytest.fixture(scope="module")
def retriever():
    return cada_jax.load_model("pretrained:synthetic", jax.devices()[:1])


@pytest.fixture(scope="module")
def examples():
    return list(people.generate(people.VARIANTS["tiny"], "test"))[:COUNT]


@pytest.fixture(scope="module")
def images(examples):
    return [np.asarray(Image.open(io.BytesIO(e.jpeg)).convert("RGB")) for e in examples]


@pytest.fixture(scope="module")
def readings(retriever, images):
    return read_attributes(retriever, images)


def share_right(readings, examples, best):
    """Of the colours that show, how many are among the `best` answers read."""
    right = []
    for reading, example in zip(readings, examples, strict=True):
        seen = visible(example.identity, example.shot)
        words = {one.part: [a.word for a in one.answers[:best]] for one in reading}
        for part, field in FIELDS.items():
            if (color := seen.get(field, "none")) != "none":
                right.append(SPELT.get(color, color) in words[part])
    return np.mean(right)


def test_the_colours_drawn_are_read_and_not_those_of_another_picture(readings, examples):
    assert share_right(readings, examples, 1) > 0.6
    assert share_right(readings, examples, 3) > 0.9
    others = readings[COUNT // 2 :] + readings[: COUNT // 2]
    assert share_right(others, examples, 1) < 0.4


def test_every_part_has_answers_with_probabilities_in_order(readings):
    assert len(readings) == COUNT
    for reading in readings:
        assert [one.part for one in reading] == [part.name for part in PARTS]
        for one in reading:
            chances = [answer.probability for answer in one.answers]
            assert chances == sorted(chances, reverse=True)
            assert 0 < sum(chances) <= 1 + 1e-6 and len(chances) in (2, 3)


def test_a_picture_is_read_alone_as_among_others(retriever, images, readings):
    (alone,) = read_attributes(retriever, images[5:6])
    for one, other in zip(alone, readings[5], strict=True):
        assert [a.word for a in one.answers] == [a.word for a in other.answers]
        np.testing.assert_allclose(
            [a.probability for a in one.answers], [a.probability for a in other.answers], atol=1e-4
        )


def test_a_causal_decoder_does_not_see_what_stands_behind_the_mask(retriever, images):
    answers = {color: (color,) for color in ("black", "white", "red", "blue")}
    asked = [
        Part("", (prompt,), answers) for prompt in ("a man in a [MASK]", "a man in a [MASK] hat")
    ]
    short, long = attribute_reading.answer_chances(retriever, asked, np.stack(images[:4]))
    np.testing.assert_allclose(short, long, atol=1e-5)
    left = Part("", ("a man wearing shoes and a [MASK]",), answers)
    (other,) = attribute_reading.answer_chances(retriever, [left], np.stack(images[:4]))
    assert np.abs(short - other).max() > 1e-3


def test_plain_values_are_those_of_the_server(readings):
    plain = readings[0][0].plain()
    assert plain["part"] == "appears as" and set(plain["words"][0]) == {"word", "probability"}


def test_words_that_the_vocabulary_lacks_are_left_out(retriever, images):
    unknown = Part("mood", ("a [MASK] man",), {"happy": ("happy",), "sad": ("sad",)})
    half = Part(
        "size", ("a [MASK] man",), {"huge": ("huge",), "long": ("long",), "short": ("short",)}
    )
    (reading,) = read_attributes(retriever, images[:1], [unknown, half])
    assert [one.part for one in reading] == ["size"]
    assert {answer.word for answer in reading[0].answers} == {"long", "short"}


def test_a_prompt_without_a_masked_word_is_an_error(retriever, images):
    part = Part("top", ("a red top",), {"red": ("red",), "blue": ("blue",)})
    with pytest.raises(UsageError, match=r"'a red top' has no \[MASK\]"):
        read_attributes(retriever, images[:1], [part])


def test_a_model_trained_without_ara_is_one_error(retriever, images):
    config = retriever.config.copy_and_resolve_references()
    config.unlock()
    config.loss.ara_weight = 0.0
    other = Retriever(
        config, retriever.mesh, retriever.model, retriever.params, retriever.tokenizer
    )
    with pytest.raises(UsageError, match="trained without ARA"):
        read_attributes(other, images[:1])
