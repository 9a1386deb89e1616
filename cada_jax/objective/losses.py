"""CADA's losses. Arrays in, losses out: no model, no config, no state.

B images and B texts, paired by row; pids int [B] say who is shown. Every mean is over
the global batch, so under `jit` the result does not depend on how rows are sharded.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cada_jax.common.shapes import AnyArray, Array, Bool, Float, Float32, Int, Int32, PRNGKeyArray
from cada_jax.models.layers import l2_normalize
from cada_jax.objective.parts import sum_of_parts

# Masked positions of a caption that logits of the vocabulary are made for at once.
MASKED_CHUNK = 16


def _distribution_fit(
    logits: Float32[Array, "B B"], targets: Float32[Array, "B B"]
) -> Float32[Array, ""]:
    """Symmetric divergence plus soft-label cross-entropy of one direction, a scalar."""
    log_p = jax.nn.log_softmax(logits, axis=-1)
    log_q = jnp.log(targets + 1e-8)
    divergence = jnp.exp(log_p) * (log_p - log_q) + targets * (log_q - log_p)
    cross_entropy = -jnp.sum(targets * log_p, axis=-1)
    return jnp.mean(divergence) + jnp.mean(cross_entropy)


def ndf(
    image_features: Float32[AnyArray, "B E"],
    text_features: Float32[AnyArray, "B E"],
    pids: Int[AnyArray, "B"],
    scale: float = 50.0,
) -> Float32[Array, ""]:
    """Normalised distribution fitting, the global loss (paper, eq. for L_ndf).

    The released code averages the divergence over all B*B entries and the cross-entropy
    over rows; the two directions are averaged.

    Features are not normalised; rows with equal pid are positives of each other; `scale` > 0
    multiplies the cosines. The result is >= 0, up to the 1e-8 inside the logarithm.
    """
    similarity = scale * l2_normalize(image_features) @ l2_normalize(text_features).T
    same = (pids[:, None] == pids[None, :]).astype(similarity.dtype)
    targets = same / jnp.sum(same, axis=-1, keepdims=True)
    # `same` is symmetric, so both directions share their targets.
    return (_distribution_fit(similarity, targets) + _distribution_fit(similarity.T, targets)) / 2


class Negatives(NamedTuple):
    """Chosen negatives; rows without any other person in the batch have weight 0."""

    image_for_text: Int32[Array, "B"]
    text_for_image: Int32[Array, "B"]
    weight: Float32[Array, "B"]  # 1 where another person exists; the same both ways


def held_weight(logits: Float32[AnyArray, "*rows B"]) -> Float32[Array, "*rows B"]:
    """Logarithm to base 2 of softmax(logits) as float32 with subnormal numbers holds it.

    Below 2 ** -126 a weight is a whole number of 2 ** -149, and -inf here where that is 0. Nothing
    smaller than 2 ** -126 is computed, for XLA flushes it to zero on some platforms.
    """
    exponent = jax.nn.log_softmax(logits, axis=-1) / np.float32(np.log(2))
    smallest = np.finfo(np.float32).minexp  # -126
    units = jnp.round(jnp.exp2(jnp.minimum(exponent, smallest) + 149))
    return jnp.where(exponent < smallest, jnp.log2(units) - 149, exponent)


def choose_negatives(
    image_features: Float32[AnyArray, "B E"],
    text_features: Float32[AnyArray, "B E"],
    pids: Int[AnyArray, "B"],
    method: str = "hardest",
    temperature: float = 0.07,
    key: PRNGKeyArray | None = None,
) -> Negatives:
    """Chooses for each text an image, and for each image a text, of another person.

    The choice is over the whole batch and carries no gradient. "underflow" is the released code's:
    of a softmax over everybody, in which the own person may leave all others a weight of 0. Such a
    row takes row 0 of the batch, whoever that is, and every row counts. RELEASED_NEGATIVES.md
    beside this file says what that costs.

    Args:
      image_features: not normalised.
      text_features: not normalised.
      pids: who is shown.
      method: "hardest", the largest dot product; "sampled", drawn with probability
        softmax(cosine / temperature) as BLIP pretrains; or "underflow", the largest float32 weight
        of softmax(dot product / temperature).
      temperature: of "sampled" and "underflow", > 0.
      key: needed by "sampled".
    """
    image, text = (jax.lax.stop_gradient(x) for x in (image_features, text_features))
    other = pids[:, None] != pids[None, :]
    weight = jnp.any(other, axis=-1).astype(jnp.float32)
    if method == "sampled":
        assert key is not None
        scores = l2_normalize(text) @ l2_normalize(image).T / temperature
        # -1e9, not -inf: a row that is masked everywhere must still draw some index.
        picks = [
            jax.random.categorical(own, jnp.where(other, x, -1e9))
            for own, x in zip(jax.random.split(key), (scores, scores.T), strict=True)
        ]
    else:
        scores = text @ image.T
        both = scores, scores.T
        if method == "underflow":
            both = tuple(held_weight(x / temperature) for x in both)
            weight = jnp.ones_like(weight)
        # Of equal entries, -inf throughout too, argmax takes the first.
        picks = [jnp.argmax(jnp.where(other, x, -jnp.inf), axis=-1) for x in both]
    return Negatives(picks[0].astype(jnp.int32), picks[1].astype(jnp.int32), weight)


def match_loss(
    logits: Float32[AnyArray, "*rows 2"],
    is_match: Int[AnyArray, "*#rows"],
    weights: Float32[AnyArray, "*rows"],
) -> Float32[Array, ""]:
    """Cross-entropy of match logits, whose index 1 is "match", by weights of sum 1 over a batch."""
    labels = jnp.broadcast_to(is_match, logits.shape[:-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.sum(losses * weights)


def masked_word_loss(
    predict: Callable[[Float[Array, "B chunk D"]], Float32[Array, "B chunk V"]],
    decoded: Float[AnyArray, "B L D"],
    token_ids: Int[AnyArray, "B L"],
    masked: Bool[AnyArray, "B L"],
    weights: Float32[AnyArray, "B"],
    chunk: int = MASKED_CHUNK,
) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
    """Cross-entropy of the true words at masked positions (ARA), and how many are predicted.

    Logits are made at masked positions only, for a vocabulary costs more than a layer: each
    caption's masked positions come first, `chunk` of them at a time, as many times as the caption
    with the most of them needs. None is dropped, however many there are, and the logits of one
    chunk are all that is held: the backward pass makes them again (`parts.sum_of_parts`).

    Args:
      predict: decoded tokens -> logits.
      decoded: of every position.
      token_ids: the words before masking.
      masked: positions to predict.
      weights: of a caption's masked tokens, 1 over those of the whole batch.
      chunk: positions of a caption predicted at once.

    Returns:
      (loss, accuracy in [0,1]), weighted sums over masked tokens; 0 without any (the released code:
      NaN).
    """
    length = token_ids.shape[1]
    chunk = min(chunk, length)
    order = jnp.argsort(~masked, axis=1, stable=True)  # masked positions first
    order = jnp.pad(order, ((0, 0), (0, -length % chunk)))
    number = jnp.sum(masked, axis=1)
    # What the prediction closes over becomes an argument, so that it can have a gradient.
    example = jax.ShapeDtypeStruct((len(decoded), chunk, decoded.shape[-1]), decoded.dtype)
    predict, constants = jax.closure_convert(predict, example)

    def summed(i, of_gradient, given):
        constants, decoded = of_gradient
        order, number, token_ids, weights = given
        places = jax.lax.dynamic_slice_in_dim(order, i * chunk, chunk, axis=1)
        rows = jnp.take_along_axis(decoded, places[:, :, None], axis=1)
        words = jnp.take_along_axis(token_ids, places, axis=1)
        logits = predict(rows, *constants)
        valid = i * chunk + jnp.arange(chunk)[None] < number[:, None]
        # The true word's logit as a sum, for the gradient of a look-up is a pass over all logits.
        true = jax.nn.one_hot(words, logits.shape[-1], dtype=bool)
        losses = jax.nn.logsumexp(logits, axis=-1) - jnp.sum(logits, axis=-1, where=true)
        counted = valid * weights[:, None]
        right = jnp.argmax(logits, axis=-1) == words
        return jnp.sum(losses * counted), jnp.sum(right * counted)

    chunks = -(-jnp.max(number) // chunk)
    given = order, number, token_ids, weights
    return sum_of_parts(summed, chunks, (constants, jnp.asarray(decoded)), given)
