"""Negatives: how hard those are that ATP's sampling puts beside a caption or an image.

"random" is any other person with the same probability, the control; "sampled" and "hardest" are
those of `config.atp.negatives`.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from cada_jax.data.batches import epoch_order
from cada_jax.models.cada import apply
from cada_jax.models.layers import l2_normalize
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.objective.losses import choose_negatives, held_weight
from tools.probing.subject import SEED, Subject, image_batches, in_batches
from tools.probing.truth import share_that_fits

METHODS = ("random", "sampled", "hardest")
EVEN = 1e6  # a temperature at which all others are equally probable
TOP = 5


@functools.partial(jax.jit, static_argnames="model")
def _project_texts(model, params, token_ids):
    encoded, _ = apply(model, params, "encode_text", token_ids)
    return (apply(model, params, "project_text", encoded),)


@functools.partial(jax.jit, static_argnames="model")
def _project_images(model, params, images):
    encoded, _ = apply(model, params, "encode_image", normalize_pixels(images))
    return apply(model, params, "project_image", encoded)


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
    ids, network = subject.token_ids, subject.retriever
    cells = ids.shape[1] * network.config.model.text.mlp_dim
    texts = in_batches(subject, _project_texts, len(ids), cells, lambda rows: (ids[rows],))[0]
    batches = image_batches(network, subject.split)
    images = [network.run(_project_images, b["image"])[b["valid"]] for b in batches]
    return texts, np.concatenate(images)[subject.right]


def make_batches(subject: Subject) -> np.ndarray:
    """The captions as in an epoch of training: int [batches, B], what is left over dropped."""
    config = subject.retriever.config
    size = min(config.train.batch_size, len(subject.chosen))
    order = epoch_order(len(subject.chosen), config.seed, 0)
    return order[: len(order) // size * size].reshape(-1, size)


def measure_negatives(subject: Subject) -> dict[str, Any]:
    """How near the negatives of whole batches are, and whether the match head refuses them.

    Returns:
      batch, batches; underflow: the share of rows in which the released code's softmax leaves all
      others no weight (`atp.negatives=underflow`), None without two persons; sampling: of the
      probabilities that "sampled" draws an image with, the mean mass of the most probable one and
      of the `TOP` most probable ones, and the mean of exp(entropy), "choices"; positive: accuracy
      and loss of the match head for the pairs; and for each of `METHODS`: rank (mean, 1 is the most
      similar other person of the batch), nearest (the share of rank 1), cosine, accuracy and loss
      of the match head, and for generated people "fits", the share of negatives that the caption
      does not contradict. Nothing is said of sampling and methods where no batch holds two persons.
    """
    batches, config = make_batches(subject), subject.retriever.config
    encoded = Encoded(*features(subject), subject.pids)
    masses = [_masses(*encoded.compare(rows), config.atp.temperature) for rows in batches]
    own = batches.reshape(-1)
    found: dict[str, Any] = {
        "batch": batches.shape[1],
        "batches": len(batches),
        "underflow": underflowing(encoded, batches, config.atp.temperature),
        "sampling": _named_means(np.concatenate(masses)),
        "positive": _match_figures(subject, own, own, 1),
    }
    for name in METHODS:
        drawn = draw(name, encoded, batches, config.atp.temperature)
        if not len(drawn.text):  # few captions, all of one person
            continue
        found[name] = {
            "rank": float(drawn.rank.mean()),
            "nearest": float((drawn.rank == 1).mean()),
            "cosine": float(drawn.cosine.mean()),
            **_match_figures(subject, drawn.text, drawn.image, 0),
        }
        if subject.truth is not None:
            pairs = subject.chosen[drawn.text], subject.right[drawn.image]
            found[name]["fits"] = share_that_fits(subject.truth, *pairs)
    return found


def underflowing(encoded: "Encoded", batches: np.ndarray, temperature: float) -> float | None:
    """The share of rows, both ways, whose float32 softmax gives all other persons a weight of 0.

    That takes a similarity to the own person that is about 104 * temperature above all others.
    """
    lost = []
    for rows in batches:
        scores = encoded.texts[rows] @ encoded.images[rows].T / temperature
        other = encoded.compare(rows)[1]
        for logits in (scores, scores.T):
            held = np.asarray(np.isfinite(held_weight(logits))) & other
            lost.append(~np.any(held, axis=1)[np.any(other, axis=1)])
    counted = np.concatenate(lost)
    return float(counted.mean()) if len(counted) else None


class Encoded(NamedTuple):
    """Embeddings of Q captions and of their images, not normalised, and the persons.

    texts, images: float32 [Q,E]; pids: int [Q].
    """

    texts: np.ndarray
    images: np.ndarray
    pids: np.ndarray

    def compare(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(cosine float32 [B,B] of each text with each image, other bool [B,B]) of rows int [B]."""
        texts, images = l2_normalize(self.texts[rows]), l2_normalize(self.images[rows])
        pids = self.pids[rows]
        return np.asarray(texts @ images.T), pids[:, None] != pids[None]


class Drawn(NamedTuple):
    """N negatives: captions and images by the number of their caption, int [N] in [0,Q).

    rank: int [N], of the negative among the other persons of its batch, 1 for the most similar;
    cosine: float32 [N].
    """

    text: np.ndarray
    image: np.ndarray
    rank: np.ndarray
    cosine: np.ndarray


def draw(name: str, encoded: Encoded, batches: np.ndarray, temperature: float) -> Drawn:
    """The negatives of both directions that one of `METHODS` chooses in batches int [batches,B].

    A row without another person in its batch gives none.
    """
    method = "hardest" if name == "hardest" else "sampled"
    temperature = EVEN if name == "random" else temperature
    parts = []
    for number, rows in enumerate(batches):
        cosine, other = encoded.compare(rows)
        key = jax.random.fold_in(jax.random.key(SEED), number)
        both = encoded.images[rows], encoded.texts[rows]
        picked = choose_negatives(*both, encoded.pids[rows], method, temperature, key)
        used = np.asarray(picked.weight) > 0
        image, text = np.asarray(picked.image_for_text), np.asarray(picked.text_for_image)
        for pairs, scores, pick in (
            ((rows, rows[image]), cosine, image),
            ((rows[text], rows), cosine.T, text),
        ):
            rank, near = ranks_of(scores, other, pick), scores[np.arange(len(rows)), pick]
            parts.append([x[used] for x in (*pairs, rank, near)])
    return Drawn(*(np.concatenate(x) for x in zip(*parts, strict=True)))


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
