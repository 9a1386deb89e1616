"""Readout: which attributes of the generated people a linear map reads from a model's images.

What cannot be read from the image tokens no decoder can match a caption with. Two models whose
tokens hold the same differ in their decoders alone.
"""

from typing import Any

import jax
import numpy as np

from cada_jax.data.split import load_split
from cada_jax.retrieval.encoded_images import EncodedImages
from tools.attribute_training import ATTRIBUTES, UNKNOWN, class_table, to_labels
from tools.probing.subject import Subject, encode_images
from tools.probing.truth import read_truth

RIDGE = 1e-2  # penalty, as a share of a feature's variance
FEATURES = ("embedding", "tokens")


def fit_readout(features: np.ndarray, labels: np.ndarray, classes: list[int]) -> np.ndarray:
    """Ridge regression from features to the classes of all attributes at once.

    Where an image does not show an attribute, that is one more class of it.

    Args:
      features: float32 [N,F].
      labels: int [N,A], UNKNOWN where it is not shown.
      classes: A numbers of classes.

    Returns:
      float32 [F, sum of classes], scores are features @ this; the additional classes left out.
    """
    ends = np.cumsum([0, *classes])
    targets = np.zeros((len(features), ends[-1]), np.float32)
    for attribute, start in enumerate(ends[:-1]):
        known = np.flatnonzero(labels[:, attribute] != UNKNOWN)
        targets[known, start + labels[known, attribute]] = 1
    gram = features.T @ features
    gram[np.diag_indices_from(gram)] += RIDGE * len(features)
    return np.asarray(jax.scipy.linalg.solve(gram, features.T @ targets, assume_a="pos"))


def predict(weights: np.ndarray, features: np.ndarray, classes: list[int]) -> np.ndarray:
    """The likeliest class of each attribute, int [N,A]; arguments as of `fit_readout`."""
    scores = np.split(features @ weights, np.cumsum(classes)[:-1], axis=1)
    return np.stack([of_one.argmax(axis=1) for of_one in scores], axis=1)


def standardised(fitted: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Features with mean 0 and variance 1 in the first array, and a column of ones."""
    mean, scale = fitted.mean(axis=0), fitted.std(axis=0) + 1e-6
    return [
        np.concatenate([(x - mean) / scale, np.ones((len(x), 1), np.float32)], axis=1)
        for x in (fitted, *others)
    ]


def _features(images: EncodedImages, name: str) -> np.ndarray:
    """One of `FEATURES`, float32 [G,F]."""
    if name == "embedding":
        return images.embeddings
    return np.asarray(images.tokens, np.float32).reshape(len(images), -1)


def _commonest(labels: np.ndarray, classes: list[int]) -> np.ndarray:
    """The class of each attribute that most images show, int [A]."""
    return np.array(
        [
            np.bincount(of_one[of_one != UNKNOWN], minlength=number).argmax()
            for of_one, number in zip(labels.T, classes, strict=True)
        ]
    )


def measure_readout(subject: Subject) -> dict[str, Any] | None:
    """Fits on the images of the train split, and counts on those of the subject's split.

    Returns:
      images: that the map was fitted on; attributes: name -> "embedding" (of the image),
      "tokens" (all of them, side by side) and "commonest" (the commonest value of the train split),
      each the share of images named right among those that show the attribute; mean: of the
      attributes, the same three. None for photographs, of which the truth is not known, and for
      the train split itself.
    """
    if subject.truth is None or subject.split.name == "train":
        return None
    config = subject.retriever.config
    train = load_split(config, "train")
    truth, fitted_on = read_truth(config, train), encode_images(subject.retriever, train)
    if truth is None:
        return None
    table = class_table(truth.shown)
    classes = [len(table[name]) for name in ATTRIBUTES]
    labels, right = to_labels(truth.shown, table), to_labels(subject.truth.shown, table)
    named = {"commonest": np.tile(_commonest(labels, classes), (len(right), 1))}
    for name in FEATURES:
        fitted, asked = standardised(*(_features(x, name) for x in (fitted_on, subject.gallery)))
        named[name] = predict(fit_readout(fitted, labels, classes), asked, classes)
    shares: dict[str, dict[str, float]] = {}
    for number, attribute in enumerate(ATTRIBUTES):
        known = right[:, number] != UNKNOWN
        if known.any():
            hits = {name: (found == right)[known, number] for name, found in named.items()}
            shares[attribute] = {name: float(hit.mean()) for name, hit in hits.items()}
    means = {name: float(np.mean([one[name] for one in shares.values()])) for name in named}
    return {"images": len(fitted_on), "attributes": shares, "mean": means}
