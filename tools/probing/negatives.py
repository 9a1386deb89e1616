"""Negatives: how hard those are that ATP's sampling puts beside a caption or an image.

"random" is any other person with the same probability, the control; "sampled" and "hardest" are
those of `config.atp.negatives`.
"""

import functools
from typing import Any

import jax
import numpy as np
import optax

from cada_jax.data.batches import epoch_order
from cada_jax.models.cada import apply
from cada_jax.models.layers import l2_normalize
from cada_jax.objective.losses import choose_negatives
from tools.probing.subject import SEED, Subject, in_batches
from tools.probing.truth import share_that_fits

METHODS = ("random", "sampled", "hardest")
EVEN = 1e6  # a temperature at which all others are equally probable
TOP = 5


@functools.partial(jax.jit, static_argnames="model")
def _project_texts(model, params, token_ids):
    tokens = apply(model, params, "encode_text", token_ids)
    return (apply(model, params, "project_text", tokens),)


@functools.partial(jax.jit, static_argnames="model")
def _project_images(model, params, image_tokens):
    return (apply(model, params, "project_image", image_tokens),)


@functools.partial(jax.jit, static_argnames="model")
def _match_logits(model, params, token_ids, image_tokens):
    decoded = apply(model, params, "decode", token_ids, image_tokens)
    return (apply(model, params, "match", decoded),)


def pair_logits(subject: Subject, caption: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Match logits float32 [P,2] of pairs: caption int [P] in [0,Q), image int [P] in [0,G)."""
    ids, tokens = subject.token_ids, subject.gallery.tokens
    text = subject.retriever.config.model.text
    cells = ids.shape[1] * max(tokens.shape[1] * text.heads, text.mlp_dim)

    def inputs(rows):
        return ids[caption[rows]], tokens[image[rows]]

    return in_batches(subject, _match_logits, len(caption), cells, inputs)[0]


def features(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of the captions and of their images, not normalised: float32 [Q,E] each."""
    ids, own = subject.token_ids, subject.gallery.tokens[subject.right, :1]
    width = subject.retriever.config.model.text.mlp_dim
    cells = ids.shape[1] * width

    def of(program, array):
        return in_batches(subject, program, len(array), cells, lambda rows: (array[rows],))[0]

    return of(_project_texts, ids), of(_project_images, own)


def make_batches(subject: Subject) -> np.ndarray:
    """The captions as in an epoch of training: int [batches, B], what is left over dropped."""
    config = subject.retriever.config
    size = min(config.train.batch_size, len(subject.chosen))
    order = epoch_order(len(subject.chosen), config.seed, 0)
    return order[: len(order) // size * size].reshape(-1, size)


def measure_negatives(subject: Subject) -> dict[str, Any]:
    """How near the negatives of whole batches are, and whether the match head refuses them.

    Returns:
      batch, batches; sampling: of the probabilities that "sampled" draws an image with, the mean
      mass of the most probable one and of the `TOP` most probable ones, and the mean of
      exp(entropy), "choices"; positive: accuracy and loss of the match head for the pairs; and for
      each of `METHODS`: rank (mean, 1 is the most similar other person of the batch), nearest (the
      share of rank 1), cosine, accuracy and loss of the match head, and for generated people
      "fits", the share of negatives that the caption does not contradict.
    """
    batches, config = make_batches(subject), subject.retriever.config
    texts, images = features(subject)
    chosen: dict[str, list[np.ndarray]] = {name: [] for name in METHODS}
    ranks: dict[str, list[np.ndarray]] = {name: [] for name in METHODS}
    cosines: dict[str, list[np.ndarray]] = {name: [] for name in METHODS}
    masses = []
    for number, rows in enumerate(batches):
        pids = subject.pids[rows]
        other = pids[:, None] != pids[None]
        cosine = np.asarray(l2_normalize(texts[rows]) @ l2_normalize(images[rows]).T)
        masses.append(_masses(cosine, other, config.atp.temperature))
        key = jax.random.fold_in(jax.random.key(SEED), number)
        for name in METHODS:
            method = "hardest" if name == "hardest" else "sampled"
            temperature = EVEN if name == "random" else config.atp.temperature
            both = images[rows], texts[rows]
            picked = choose_negatives(*both, pids, method, temperature, key)
            used = np.asarray(picked.weight) > 0
            for scores, pick, by_text in (
                (cosine, np.asarray(picked.image_for_text), True),
                (cosine.T, np.asarray(picked.text_for_image), False),
            ):
                pairs = (rows, rows[pick]) if by_text else (rows[pick], rows)
                chosen[name].append(np.stack(pairs)[:, used])
                ranks[name].append(ranks_of(scores, other, pick)[used])
                cosines[name].append(scores[np.arange(len(rows)), pick][used])
    own = batches.reshape(-1)
    found: dict[str, Any] = {
        "batch": batches.shape[1],
        "batches": len(batches),
        "sampling": _named_means(np.concatenate(masses)),
        "positive": _match_figures(subject, own, own, 1),
    }
    for name in METHODS:
        text, image = np.concatenate(chosen[name], axis=1)
        rank = np.concatenate(ranks[name])
        found[name] = {
            "rank": float(rank.mean()),
            "nearest": float((rank == 1).mean()),
            "cosine": float(np.concatenate(cosines[name]).mean()),
            **_match_figures(subject, text, image, 0),
        }
        if subject.truth is not None:
            pairs = subject.chosen[text], subject.right[image]
            found[name]["fits"] = share_that_fits(subject.truth, *pairs)
    return found


def ranks_of(scores: np.ndarray, other: np.ndarray, pick: np.ndarray) -> np.ndarray:
    """Rank of a column among the others of each row, 1 for the highest score.

    Args:
      scores: float [B,B].
      other: bool [B,B], the columns that count.
      pick: int [B], the columns to rank.
    """
    own = np.take_along_axis(scores, pick[:, None], axis=1)
    return 1 + ((scores > own) & other).sum(axis=1)


def _masses(cosine: np.ndarray, other: np.ndarray, temperature: float) -> np.ndarray:
    """(mass of the first, of the first `TOP`, exp of the entropy) of each row: float [B',3].

    Rows without another person are left out.
    """
    some = other.any(axis=1)
    logits = np.where(other, cosine / temperature, -np.inf)[some].astype(np.float64)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = np.sort(weights / weights.sum(axis=1, keepdims=True), axis=1)[:, ::-1]
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)
    return np.stack([p[:, 0], p[:, :TOP].sum(axis=1), np.exp(entropy)], axis=1)


def _named_means(masses: np.ndarray) -> dict[str, float]:
    if not len(masses):
        return {}
    first, top, choices = masses.mean(axis=0).tolist()
    return {"first": first, f"first_{TOP}": top, "choices": choices}


def _match_figures(
    subject: Subject, text: np.ndarray, image: np.ndarray, label: int
) -> dict[str, float]:
    """Accuracy and loss of the match head for captions and the images of captions, int [P]."""
    logits = pair_logits(subject, text, subject.right[image])
    labels = np.full(len(logits), label)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return {
        "accuracy": float((logits.argmax(axis=1) == label).mean()),
        "loss": float(losses.mean()),
    }
