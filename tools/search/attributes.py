"""How often the attribute decoder reads what a generated picture shows."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cada_jax.retrieval.attribute_prompts import PARTS
from cada_jax.retrieval.attribute_reading import read_attributes
from cada_jax.retriever import Retriever
from tools.search.options import percent
from tools.search.pictures import Shown

# Part -> the attributes that answer it; a picture may show an outer garment over its top.
FIELDS = {
    "appears as": ("gender",),
    "hair": ("hair_color",),
    "top": ("outer_color", "top_color"),
    "bottom": ("bottom_color",),
    "shoes": ("shoes_color",),
    "upper garment": ("outer", "top"),
    "lower garment": ("bottom",),
    "footwear": ("shoes",),
    "carries": ("bag", "item"),
}
SPELT = {"gray": "grey"}


def true_answers(part: str, one: Shown) -> set[str]:
    """What a right reading may say: the values that the picture shows, "none" left out.

    A top under an open jacket shows its colour and not its kind.
    """
    values = {one.seen.get(field, "none") for field in FIELDS[part]} - {"none"}
    return {SPELT.get(value, value) for value in values}


def measure_attributes(
    retriever: Retriever, shown: list[Shown], count: int
) -> Iterator[dict[str, Any]]:
    """Of each part how often the first, or one of the first three answers, is true."""
    some = [shown[i] for i in np.random.default_rng(0).permutation(len(shown))[:count]]
    readings = read_attributes(retriever, [one.pixels for one in some])
    for part in PARTS:
        truth = [true_answers(part.name, one) for one in some]
        read = [
            next((r.answers for r in reading if r.part == part.name), ()) for reading in readings
        ]
        words = [[answer.word for answer in answers] for answers in read]
        asked = [i for i, values in enumerate(truth) if values and words[i]]
        if not asked:
            continue
        names = sorted(set().union(*(truth[i] for i in asked)))
        commonest = max(np.mean([name in truth[i] for i in asked]) for name in names)
        other = [(i + len(some) // 2) % len(some) for i in asked]
        yield {
            "part": part.name,
            "pictures": len(asked),
            "first": percent([words[i][0] in truth[i] for i in asked]),
            "first three": percent([bool(truth[i] & set(words[i])) for i in asked]),
            "commonest": percent(commonest),
            "of another picture": percent(
                [truth[i] >= set(words[j][:1]) for i, j in zip(asked, other, strict=True)]
            ),
        }
