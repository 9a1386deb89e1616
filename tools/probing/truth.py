"""What is true of the generated people: what images show, what captions say, who persons are."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cada_jax.data.datasets.synthetic import people
from cada_jax.data.split import Split
from tools.attribute_training import ATTRIBUTES, true_attributes

Attributes = dict[str, str]


class Truth(NamedTuple):
    """Attribute -> value, of each image, caption and person of a split.

    Attributes:
      shown: of each image, what it shows.
      stated: of each caption, what it says.
      persons: of each person's number, who it is; skin, which no caption tells, left out.
    """

    shown: list[Attributes]
    stated: list[Attributes]
    persons: dict[int, Attributes]


def read_truth(config: ConfigDict, split: Split) -> Truth | None:
    """The truth about a split of the generated people; None for another set."""
    if config.data.name != "synthetic":
        return None
    variant = config.data.variant or people.DEMO.name
    shown, stated = true_attributes(variant, split)
    settings = people.VARIANTS[variant]
    first = settings.first_pid(split.name)
    identities = people.make_identities(settings, split.name)
    persons = {
        first + number: {name: getattr(identity, name) for name in ATTRIBUTES}
        for number, identity in enumerate(identities)
    }
    return Truth(shown, stated, persons)


def contradicted(said: Attributes, seen: Attributes) -> list[str]:
    """The attributes that a caption states and an image shows otherwise, sorted."""
    return sorted(name for name in said if name in seen and said[name] != seen[name])


def differing(one: Attributes, other: Attributes) -> list[str]:
    """The attributes in which two persons differ, sorted."""
    return sorted(name for name in one if one[name] != other[name])


def share_that_fits(truth: Truth, captions: np.ndarray, images: np.ndarray) -> float:
    """Of pairs of a caption and an image, int [P] each, the share without a contradiction."""
    pairs = zip(captions.tolist(), images.tolist(), strict=True)
    fits = [not contradicted(truth.stated[c], truth.shown[i]) for c, i in pairs]
    return float(np.mean(fits))
