"""The ATP gate: what it is for each kind of word, whether the image moves it, what it is worth."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cada_jax.models.cada import apply
from cada_jax.network import Network
from cada_jax.retrieval.association_maps import sown_arrays
from cada_jax.retrieval.encode import Queries
from cada_jax.retrieval.ranking import Ranking, rank
from tools.probing.subject import Subject, in_batches
from tools.probing.word_classes import CLASSES, Words

LEAST_COUNT = 20  # occurrences of a word whose mean is listed
SHOWN_WORDS = 10


@functools.partial(jax.jit, static_argnames="model")
def _gates(model, params, token_ids, image_tokens):
    """The gate of every token and layer, float32 [b,L,layers], as the only one of a tuple."""
    inputs = token_ids, image_tokens
    _, state = apply(model, params, "decode", *inputs, mutable=["intermediates"])
    gate = sown_arrays(state["intermediates"])["gate"]
    return (jnp.moveaxis(gate[..., 0], 0, -1),)


def read_gates(subject: Subject, images: np.ndarray) -> np.ndarray:
    """The gate of every token of the captions beside these images: float32 [Q,L,layers].

    Args:
      subject: its model has gates.
      images: int [Q] in [0,G).
    """
    ids, tokens = subject.token_ids, subject.gallery.tokens
    text = subject.retriever.config.model.text
    cells = ids.shape[1] * max(tokens.shape[1] * text.heads, text.mlp_dim) * text.depth

    def inputs(rows):
        return ids[rows], tokens[images[rows]]

    return in_batches(subject, _gates, len(ids), cells, inputs)[0]


def measure_gate(subject: Subject, words: Words) -> dict[str, Any] | None:
    """The gate by class of word and layer, and by word; None for a model without gates.

    Returns:
      layers: how many; classes: name -> count, `right` and `wrong`, of each layer the mean, std, p5
      and p95 beside the own image and beside another person's, and `moved`, of each layer the mean
      distance between the two; words: of each layer the `highest` and the `lowest` of those with at
      least `LEAST_COUNT` occurrences, by their mean beside the own image; explained: of each layer
      the share of that gate's variance that lies between the classes, in [0,1].
    """
    if subject.retriever.model.gate != "token":
        return None
    right, wrong = (read_gates(subject, images) for images in (subject.right, subject.wrong))
    classes = {}
    for number, name in enumerate(CLASSES):
        of_class = words.kind == number
        if of_class.any():
            own, other = right[of_class], wrong[of_class]
            classes[name] = {
                "count": len(own),
                "right": _spreads(own),
                "wrong": _spreads(other),
                "moved": np.abs(own - other).mean(axis=0).tolist(),
            }
    means = [_word_means(layer, words) for layer in np.moveaxis(right, -1, 0)]
    return {
        "layers": right.shape[-1],
        "classes": classes,
        "words": [
            {"highest": layer[:SHOWN_WORDS], "lowest": layer[::-1][:SHOWN_WORDS]} for layer in means
        ],
        "explained": _explained(right, words.kind),
    }


def _spreads(values: np.ndarray) -> list[dict[str, float]]:
    """Of each layer the mean, std and percentiles of float [n,layers]."""
    return [
        {
            "mean": float(np.mean(layer)),
            "std": float(np.std(layer)),
            "p5": float(np.percentile(layer, 5)),
            "p95": float(np.percentile(layer, 95)),
        }
        for layer in values.T
    ]


def _word_means(gates: np.ndarray, words: Words) -> list[dict[str, Any]]:
    """Mean of the gates float [Q,L] of each frequent word, highest first.

    The gate of a word of several pieces is their mean; it counts once.
    """
    caption, place = np.nonzero(words.index >= 0)
    occurrence = caption * gates.shape[1] + words.index[caption, place]
    _, first, number = np.unique(occurrence, return_index=True, return_inverse=True)
    pieces = np.bincount(number)
    sums = np.bincount(number, weights=gates[caption, place].astype(np.float64))
    of_word: dict[str, list[float]] = {}
    for i, start in enumerate(first):
        of_word.setdefault(words.word[caption[start], place[start]], []).append(
            float(sums[i] / pieces[i])
        )
    found = [
        {"word": word, "count": len(values), "mean": float(np.mean(values))}
        for word, values in of_word.items()
        if len(values) >= LEAST_COUNT
    ]
    return sorted(found, key=lambda entry: (-entry["mean"], entry["word"]))


def _explained(gates: np.ndarray, kind: np.ndarray) -> list[float]:
    """Share of the variance of float [Q,L,layers] that lies between the classes int [Q,L]."""
    real = kind >= 0
    values, of = gates[real].astype(np.float64), kind[real]
    between = np.zeros(values.shape[1])
    middle = values.mean(axis=0)
    for number in np.unique(of):
        own = values[of == number]
        between += len(own) * (own.mean(axis=0) - middle) ** 2
    total = ((values - middle) ** 2).sum(axis=0)
    return np.where(total > 1e-9, between / np.maximum(total, 1e-9), 0.0).tolist()


def with_constant_gates(params: Any, gates: np.ndarray) -> Any:
    """The parameters with gates that are the same for every token.

    Args:
      params: of a model with gates.
      gates: float [layers] in (0,2).
    """
    logit = np.log(gates / (2 - gates))

    def change(path, leaf):
        names = [getattr(key, "key", None) for key in path]
        if "gate" not in names:
            return leaf
        if names[-1] == "bias":
            return jnp.asarray(logit.reshape(leaf.shape), leaf.dtype)
        return jnp.zeros_like(leaf)

    return jax.tree_util.tree_map_with_path(change, params)


def measure_worth(
    subject: Subject, queries: Queries, trained: Ranking, gate: dict[str, Any]
) -> dict[str, Any]:
    """Re-ranking with the gates made constant: what their values, and their spread, are worth.

    Args:
      subject: its model has gates.
      queries: its captions, encoded.
      trained: what the model's own gates gave.
      gate: from `measure_gate`.

    Returns:
      Of "layer means" (each gate is its layer's mean beside the own image) and "one" (g = 1):
      R1 and mAP in percent, and how many queries this puts right and wrong.
    """
    classes = gate["classes"].values()
    counts = [c["count"] for c in classes]
    means = [[layer["mean"] for layer in c["right"]] for c in classes]
    settings = {"layer means": np.average(means, axis=0, weights=counts)}
    settings["one"] = np.ones(gate["layers"])
    retriever, found = subject.retriever, {}
    before = trained.first_reranked == 0
    for name, values in settings.items():
        network: Network = retriever.with_params(with_constant_gates(retriever.params, values))
        changed = rank(network, queries, subject.gallery, trained.retrieved.indices.shape[1])
        after = changed.first_reranked == 0
        found[name] = {
            "R1": changed.metrics["reranked"]["R1"],
            "mAP": changed.metrics["reranked"]["mAP"],
            "put_right": int((after & ~before).sum()),
            "put_wrong": int((before & ~after).sum()),
        }
    return found
