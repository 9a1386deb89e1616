"""CADA's losses. Arrays in, losses out: no model, no config, no state.

B images and B texts, paired by row; pids int [B] say who is shown. Every mean is over
the global batch, so under `jit` the result does not depend on how rows are sharded.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
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

    Args:
      image_features: float32 [B,E], not normalised.
      text_features: float32 [B,E], not normalised.
      pids: int [B]; rows with equal pid are positives of each other.
      scale: multiplies the cosine similarities, > 0.

    Returns:
      float32 scalar >= 0 up to the 1e-8 inside the logarithm.
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


def choose_negatives(
    image_features: Float32[AnyArray, "B E"],
    text_features: Float32[AnyArray, "B E"],
    pids: Int[AnyArray, "B"],
    method: str = "hardest",
    temperature: float = 0.07,
    key: PRNGKeyArray | None = None,
) -> Negatives:
    """Chooses for each text an image, and for each image a text, of another person.

    The choice is over the whole batch and carries no gradient. The released code takes the
    argmax of a softmax that can underflow and then picks row 0, maybe the positive; here
    the argmax is over masked logits, and a row without another person gets weight 0.

    Args:
      image_features: float32 [B,E], not normalised.
      text_features: float32 [B,E], not normalised.
      pids: int [B].
      method: "hardest", the largest dot product of the un-normalised features; or
        "sampled", drawn with probability softmax(cosine / temperature) as BLIP pretrains.
      temperature: of "sampled", > 0.
      key: PRNG key, needed by "sampled".

    Raises:
      ValueError: unknown method, or "sampled" without a key.
    """
    image_features = jax.lax.stop_gradient(image_features)
    text_features = jax.lax.stop_gradient(text_features)
    other = pids[:, None] != pids[None, :]
    if method == "hardest":
        scores = text_features @ image_features.T
        pick_image = jnp.argmax(jnp.where(other, scores, -jnp.inf), axis=-1)
        pick_text = jnp.argmax(jnp.where(other, scores.T, -jnp.inf), axis=-1)
    elif method == "sampled":
        if key is None:
            raise ValueError("negatives 'sampled' need a PRNG key")
        scores = l2_normalize(text_features) @ l2_normalize(image_features).T / temperature
        key_image, key_text = jax.random.split(key)
        # -1e9, not -inf: a row that is masked everywhere must still draw some index.
        pick_image = jax.random.categorical(key_image, jnp.where(other, scores, -1e9))
        pick_text = jax.random.categorical(key_text, jnp.where(other, scores.T, -1e9))
    else:
        raise ValueError(f"config.atp.negatives is {method!r}; allowed: 'hardest', 'sampled'")
    weight = jnp.any(other, axis=-1).astype(jnp.float32)
    return Negatives(pick_image.astype(jnp.int32), pick_text.astype(jnp.int32), weight)


def weighted_mean(
    values: Float32[AnyArray, "*axes"], weights: Float32[AnyArray, "*axes"]
) -> Float32[Array, ""]:
    """Mean of `values` over entries of weight > 0 (same shape); 0 if there are none."""
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def match_loss(
    logits: Float32[AnyArray, "*rows 2"],
    is_match: Int[AnyArray, "*#rows"],
    weights: Float32[AnyArray, "*rows"],
) -> Float32[Array, ""]:
    """Cross-entropy of match logits, the mean over rows of weight 1.

    Args:
      logits: float32 [..., 2]; index 1 is "match".
      is_match: int32, broadcastable to [...], 0 or 1.
      weights: float32 [...], 0 or 1.
    """
    labels = jnp.broadcast_to(is_match, logits.shape[:-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return weighted_mean(losses, weights)


def masked_word_loss(
    predict: Callable[[Float[Array, "B chunk D"]], Float32[Array, "B chunk V"]],
    decoded: Float[AnyArray, "B L D"],
    token_ids: Int[AnyArray, "B L"],
    masked: Bool[AnyArray, "B L"],
    chunk: int = MASKED_CHUNK,
) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
    """Cross-entropy of the true words at masked positions (ARA), and how many are predicted.

    The mean is over the masked tokens of the global batch, whatever their spread over
    devices; with no masked token the loss is 0 (the released code: NaN).

    Logits are made at masked positions only, for a vocabulary costs more than a layer: each
    caption's masked positions come first, `chunk` of them at a time, as many times as the caption
    with the most of them needs. None is dropped, however many there are, and the logits of one
    chunk are all that is held: the backward pass makes them again (`parts.sum_of_parts`).

    Args:
      predict: float [B,chunk,D] -> logits float32 [B,chunk,V].
      decoded: float [B,L,D].
      token_ids: int32 [B,L], the words before masking.
      masked: bool [B,L].
      chunk: positions of a caption predicted at once.

    Returns:
      (loss, accuracy in [0,1]), float32 scalars.
    """
    length = token_ids.shape[1]
    chunk = min(chunk, length)
    order = jnp.argsort(~masked, axis=1, stable=True)  # masked positions first
    order = jnp.pad(order, ((0, 0), (0, -length % chunk)))
    number = jnp.sum(masked, axis=1)
    # What the prediction closes over becomes an argument, so that it can have a gradient.
    example = jax.ShapeDtypeStruct((len(decoded), chunk, decoded.shape[-1]), decoded.dtype)
    predict, weights = jax.closure_convert(predict, example)

    def summed(i, of_gradient, given):
        weights, decoded = of_gradient
        order, number, token_ids = given
        places = jax.lax.dynamic_slice_in_dim(order, i * chunk, chunk, axis=1)
        rows = jnp.take_along_axis(decoded, places[:, :, None], axis=1)
        words = jnp.take_along_axis(token_ids, places, axis=1)
        logits = predict(rows, *weights)
        valid = (i * chunk + jnp.arange(chunk)[None] < number[:, None]).astype(logits.dtype)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, words)
        right = (jnp.argmax(logits, axis=-1) == words).astype(logits.dtype)
        return jnp.sum(losses * valid), jnp.sum(right * valid)

    chunks = -(-jnp.max(number) // chunk)
    given = order, number, token_ids
    loss, right = sum_of_parts(summed, chunks, (weights, jnp.asarray(decoded)), given)
    tokens = jnp.maximum(jnp.sum(number), 1).astype(loss.dtype)
    return loss / tokens, right / tokens
