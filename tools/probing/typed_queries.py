"""Queries as people type them, of the generated people: two to five words, or a few more.

"man with green backpack" is true of several persons. What is true of whom is known, so that every
image whose person has all the attributes named is a right answer.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cada_jax.data.datasets.synthetic.identity import NONE
from cada_jax.data.datasets.synthetic.speech import Speech
from cada_jax.network import Network
from cada_jax.retrieval.encode import Queries
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.rerank import Pairs, match_pairs
from tools.probing.truth import Attributes

THINGS = ("hair", "headwear", "scarf", "outer", "top", "bottom", "shoes", "bag", "item")
MOST_THINGS = 2
RERANKED = 32
NAMES_PERSON, NAMES_COLOR, NAMES_KIND = 0.6, 0.9, 0.9
JOINTS = (" ", ", ", " and ")


class Typed(NamedTuple):
    """text: as typed; stated: the attributes that it names, never what is absent."""

    text: str
    stated: Attributes


def type_query(rng: np.random.Generator, seen: Attributes, speech: Speech) -> Typed | None:
    """A query for one image.

    Args:
      rng: draws what is named, and how.
      seen: what the image shows, attribute -> value.
      speech: of the world that the image is from.

    Returns:
      None where nothing that was drawn can be said.
    """

    def choose(options):
        return options[int(rng.integers(len(options)))]

    stated: Attributes = {}
    subject = ""
    if rng.random() < NAMES_PERSON:
        subject, stated["gender"] = choose(speech.subjects[seen["gender"]]), seen["gender"]
    things = []
    for field in rng.permutation(THINGS)[: 1 + int(rng.integers(MOST_THINGS))]:
        text, said = _thing(choose, rng, str(field), seen, speech)
        if text:
            things.append(text)
            stated |= said
    if not things:
        return None
    named = choose(JOINTS).join(things)
    return Typed(f"{subject}{choose((' ', ' with ', ' in '))}{named}" if subject else named, stated)


def _thing(choose, rng, field: str, seen: Attributes, speech: Speech) -> tuple[str, Attributes]:
    kind_field, color_field = (
        ("hair_style", "hair_color") if field == "hair" else (field, f"{field}_color")
    )
    kind, color = seen.get(kind_field), seen.get(color_field)
    words: Mapping = speech.hair_colors if field == "hair" else speech.colors
    if kind in (None, NONE) or color in (None, NONE) or kind == "bald":
        return "", {}
    said = {}
    if field == "hair":
        forms = ("{c} hair",)
    elif rng.random() < NAMES_KIND or None not in speech.kinds[field]:
        key = "under" if field == "top" and seen.get("outer", NONE) != NONE else kind
        forms, said[kind_field] = speech.kinds[field][key], kind
    else:
        forms = speech.kinds[field][None]
    said[color_field] = color
    color_word = choose(words[color])
    if rng.random() >= NAMES_COLOR and kind_field in said:
        color_word = ""
        del said[color_field]
    text = choose(forms).replace("{c}", color_word)
    return re.sub(r"^an? ", "", " ".join(text.split())), said


def type_queries(seen: list[Attributes], speech: Speech, count: int, seed: int) -> list[Typed]:
    """Different queries, each for an image that was drawn.

    Args:
      seen: of each image, what it shows.
      speech: of the world.
      count: how many.
      seed: of all draws.
    """
    rng = np.random.default_rng(seed)
    typed: dict[str, Typed] = {}
    while len(typed) < count:
        query = type_query(rng, seen[int(rng.integers(len(seen)))], speech)
        if query is not None:
            typed.setdefault(query.text, query)
    return list(typed.values())


def answers(queries: list[Typed], persons: list[Attributes]) -> np.ndarray:
    """Whether each image is a right answer, bool [queries, images].

    Args:
      queries: what is asked.
      persons: of each image, who the person is.
    """
    columns = {
        name: np.array([person[name] for person in persons], object)
        for name in {name for query in queries for name in query.stated}
    }
    return np.stack(
        [
            np.logical_and.reduce([columns[n] == value for n, value in query.stated.items()])
            for query in queries
        ]
    )


def score_nearest(
    network: Network, queries: Queries, gallery: EncodedImages, similarity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The `RERANKED` nearest images of each query, int [Q,k], and their scores, float [Q,k].

    Args:
      network: that encoded both.
      queries: Q of them.
      gallery: G images.
      similarity: float [Q,G].
    """
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :RERANKED]
    text = np.repeat(np.arange(len(nearest)), nearest.shape[1])
    pairs = Pairs(queries.token_ids, gallery.tokens, text, nearest.reshape(-1))
    logits = match_pairs(network, pairs).reshape(nearest.shape)
    return nearest, logits + np.take_along_axis(similarity, nearest, axis=1)
