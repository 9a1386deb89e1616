"""Attribute reading: what ARA's decoder predicts for a picture, without being told anything.

A masked word of a prompt is predicted from the picture; position t predicts token t, no shift. The
probabilities are among the answers of `attribute_prompts` alone and averaged over the prompts: they
say which answer fits best, not whether the picture shows such a thing at all.

B images, P prompts, T tokens of a prompt, V entries of the vocabulary.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cada_jax.common.errors import UsageError
from cada_jax.common.shapes import Array, Float, Float32, Int32, UInt8
from cada_jax.models.cada import CADA, apply
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.network import Network, TextNetwork
from cada_jax.retrieval.attribute_prompts import PARTS, Part
from cada_jax.retrieval.images import ImageLike, pixels_of
from cada_jax.text.tokenizer import Tokenizer

MASK = "[MASK]"
IMAGES_AT_ONCE = 16


class Answer(NamedTuple):
    """One word that a picture may show. probability: among the answers to its question, [0,1]."""

    word: str
    probability: float


class Reading(NamedTuple):
    """What was read of one part, the most probable answer first."""

    part: str
    answers: tuple[Answer, ...]

    def plain(self) -> dict[str, Any]:
        """The same as values that JSON can hold: {"part", "words": [{"word", "probability"}]}."""
        return {"part": self.part, "words": [answer._asdict() for answer in self.answers]}


class _Prompts(NamedTuple):
    """token_ids: int32 [P,T]; place: int32 [P], of the masked word that is read."""

    token_ids: Int32[np.ndarray, "P T"]
    place: Int32[np.ndarray, "P"]


def read_attributes(
    network: TextNetwork,
    images: Sequence[ImageLike],
    parts: Sequence[Part] = PARTS,
    count: int = 3,
) -> list[tuple[Reading, ...]]:
    """Reads the attributes of pictures off the attribute decoder.

    Args:
      network: with its vocabulary, as `Retriever` is one.
      parts: what is asked; a part of whose answers the vocabulary knows fewer than two is left out.
      count: answers of each part that are kept.

    Returns:
      The readings of every image, in the order of `parts`.

    Raises:
      MissingFileError: there is no such image.
      UsageError: it cannot be read, or the model has no trained attribute decoder.
    """
    check_attribute_decoder(network)
    asked = [part for part in parts if len(known_answers(part, network.tokenizer)) > 1]
    size = tuple(network.config.data.image_size)
    readings: list[tuple[Reading, ...]] = []
    for begin in range(0, len(images), IMAGES_AT_ONCE):
        some = images[begin : begin + IMAGES_AT_ONCE]
        # One image, or a full batch: two programs whatever is asked.
        filled = [*some, *[some[0]] * (IMAGES_AT_ONCE - len(some))] if len(some) > 1 else some
        chances = answer_chances(
            network, asked, np.stack([pixels_of(image, size) for image in filled])
        )
        for row in range(len(some)):
            readings.append(
                tuple(
                    _reading(part, network.tokenizer, chance[row], count)
                    for part, chance in zip(asked, chances, strict=True)
                )
            )
    return readings


def check_attribute_decoder(network: Network) -> None:
    """Raises UsageError unless the model was trained to predict masked attributes."""
    if not network.config.loss.ara_weight or "attribute_decoder" not in network.params:
        raise UsageError(
            "this model cannot read attributes: it was trained without ARA (loss.ara_weight is "
            f"{network.config.loss.ara_weight:g}), so its attribute decoder knows nothing. Load a "
            "model trained with loss.ara_weight above 0"
        )


def answer_chances(
    network: TextNetwork, parts: Sequence[Part], pixels: UInt8[np.ndarray, "B H W 3"]
) -> list[Float32[np.ndarray, "B answers"]]:
    """Probabilities of the answers of each part, of those that `known_answers` names.

    Args:
      parts: what is asked, all at once.
      pixels: uint8 [B,H,W,3] of the network's size.
    """
    if not parts:
        return []
    asked = [_encode_prompts(part, network) for part in parts]
    token_ids, place = (np.concatenate(arrays) for arrays in zip(*asked, strict=True))
    logits = np.asarray(network.run(_masked_logits, pixels, token_ids, place), np.float32)
    ends = np.cumsum([len(part.prompts) for part in parts])[:-1]
    return [
        _chances(some, _ids_of(part, network.tokenizer))
        for part, some in zip(parts, np.split(logits, ends, axis=1), strict=True)
    ]


def _chances(
    logits: Float32[np.ndarray, "B P V"], answers: dict[str, list[int]]
) -> Float32[np.ndarray, "B answers"]:
    """Softmax over the answers, the mean over the prompts."""
    scores = np.stack(
        [np.logaddexp.reduce(logits[..., ids], axis=-1) for ids in answers.values()], axis=-1
    )
    chances = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (chances / chances.sum(axis=-1, keepdims=True)).mean(axis=1)


def known_answers(part: Part, tokenizer: Tokenizer) -> tuple[str, ...]:
    """The labels that `answer_chances` has columns for."""
    return tuple(_ids_of(part, tokenizer))


def _ids_of(part: Part, tokenizer: Tokenizer) -> dict[str, list[int]]:
    """The token ids of each answer that the vocabulary knows a word of."""
    ids = {
        label: [tokenizer.vocabulary[word] for word in words if word in tokenizer.vocabulary]
        for label, words in part.answers.items()
    }
    return {label: known for label, known in ids.items() if known}


def _reading(
    part: Part, tokenizer: Tokenizer, chances: Float32[np.ndarray, "answers"], count: int
) -> Reading:
    labels = known_answers(part, tokenizer)
    best = np.argsort(-chances, kind="stable")[:count]
    return Reading(part.name, tuple(Answer(labels[i], float(chances[i])) for i in best))


def _encode_prompts(part: Part, network: TextNetwork) -> _Prompts:
    """The prompts of a part, as long as the model's texts."""
    tokenizer = network.tokenizer
    special, length = tokenizer.special, network.config.data.max_length
    rows, places = [], []
    for prompt in part.prompts:
        ids = []
        for number, piece in enumerate(prompt.split(MASK)):
            ids += [special["mask"]] * (number > 0)
            ids += tokenizer.split(piece)[1].tolist()
        row, _ = tokenizer.frame(np.asarray(ids), np.zeros(len(ids), np.int32), length)
        masked = np.flatnonzero(row == special["mask"])
        if not len(masked):
            raise UsageError(f"the prompt {prompt!r} has no {MASK} within {length} tokens")
        rows.append(row)
        places.append(masked[-1])
    return _Prompts(np.stack(rows), np.asarray(places, np.int32))


@functools.partial(jax.jit, static_argnames="model")
def _masked_logits(
    model: CADA,
    params: Any,
    images: UInt8[Array, "B H W 3"],
    token_ids: Int32[Array, "P T"],
    place: Int32[Array, "P"],
) -> Float[Array, "B P V"]:
    """Logits of the masked word of every prompt for every image."""
    _, tokens = apply(model, params, "encode_image", normalize_pixels(images))
    count, prompts = len(images), len(token_ids)
    ids = jnp.tile(token_ids, (count, 1))
    valid = ids != model.config.tokens.pad
    decoded = apply(model, params, "decode_masked", ids, valid, tokens)
    read = jnp.tile(place, count)[:, None, None]
    logits = apply(model, params, "masked_logits", jnp.take_along_axis(decoded, read, axis=1)[:, 0])
    return logits.reshape(count, prompts, -1)
