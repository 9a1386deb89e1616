"""ATP, the association of text tokens with image patches: match and group losses.

Source: CADA (IEEE TMM 2024), section on ATP. One pass of the decoder over 3B pairs: (I_i, T_i) is a
match, (I_neg, T_i) and (I_i, T_neg) are not.
"""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cada_jax.common.shapes import AnyArray, Array, Float, Float32, Int, Int32, PRNGKeyArray
from cada_jax.models.cada import CADA, apply
from cada_jax.objective import losses


def choose_negatives(
    config: ConfigDict,
    features: tuple[Float32[AnyArray, "B E"], Float32[AnyArray, "B E"]],
    pids: Int[AnyArray, "B"],
    key: PRNGKeyArray,
) -> losses.Negatives:
    """`losses.choose_negatives` of (image, text) embeddings float32 [B,E], as `config.atp` says."""
    c = config.atp
    return losses.choose_negatives(*features, pids, c.negatives, c.temperature, key)


def pairs_to_match(
    token_ids: Int[AnyArray, "B T"], negatives: losses.Negatives
) -> tuple[Int[Array, "3*B T"], Float32[Array, "3*B"]]:
    """The texts that are decoded, in the order (T_i with I_i, T_i with I_neg, T_neg with I_i).

    The three of a row stay together: however a batch is spread, a device decodes its own rows.

    Returns:
      token ids int32 [3B,T] and weights float32 [3B].
    """
    texts = jnp.stack([token_ids, token_ids, token_ids[negatives.text_for_image]], axis=1)
    weight = negatives.weight
    weights = jnp.stack([jnp.ones_like(weight), weight, weight], axis=1)
    return texts.reshape(-1, texts.shape[-1]), weights.reshape(-1)


def images_to_match(
    own: Float[AnyArray, "B S Dv"], negative: Float[AnyArray, "B S Dv"]
) -> tuple[Float[Array, "2*B S Dv"], Int32[Array, "B 3"]]:
    """Images of `pairs_to_match`, each row's own beside its negative, and the index into them.

    Args:
      own: float [B,S,Dv].
      negative: float [B,S,Dv], those of another person.

    Returns:
      image tokens [2B,S,Dv] and an index [B,3] as `CADA.decode` takes it.
    """
    images = jnp.stack([own, negative], axis=1).reshape(-1, *own.shape[1:])
    return images, jnp.broadcast_to(jnp.array([0, 1, 0], jnp.int32)[None], (len(own), 3))


def indices_to_match(image_for_text: Int[AnyArray, "B"]) -> Int32[Array, "3*B"]:
    """The image of each text of `pairs_to_match` among the B of the batch, int32 [3B]."""
    rows = jnp.arange(len(image_for_text), dtype=jnp.int32)
    return jnp.stack([rows, image_for_text, rows], axis=1).reshape(-1)


def match_terms(
    model: CADA,
    params: Any,
    texts: Int[AnyArray, "M T"],
    weights: Float32[AnyArray, "M"],
    images: Float[AnyArray, "_ S Dv"],
    image_index: Int[AnyArray, "M"] | Int[AnyArray, "B 3"] | None,
    rngs: dict[str, PRNGKeyArray] | None,
) -> dict[str, Float32[Array, ""]]:
    """Match and group losses of decoded pairs; the first of every three is a match.

    Args:
      model: the CADA module.
      params: its parameters.
      texts: token ids int32 [3B,T], from `pairs_to_match`, as `weights` are.
      weights: float32 [3B].
      images: image tokens float [B or 2B,S,Dv].
      image_index: the image of each text, as `CADA.decode` takes it.
      rngs: dropout key in a dict, or None for no dropout.

    Returns:
      dict of float32 scalars: match, group, match_accuracy.
    """
    inputs = texts, images, image_index
    decoded = apply(model, params, "decode", *inputs, deterministic=rngs is None, rngs=rngs)
    is_match = (jnp.arange(len(texts)) % 3 == 0).astype(jnp.int32)
    logits = apply(model, params, "match", decoded)
    group_logits, group_weight = apply(model, params, "match_groups", decoded, texts)
    correct = (jnp.argmax(logits, axis=-1) == is_match).astype(jnp.float32)
    return {
        "match": losses.match_loss(logits, is_match, weights),
        "group": losses.match_loss(
            group_logits, is_match[:, None], group_weight * weights[:, None]
        ),
        "match_accuracy": losses.weighted_mean(correct, weights),
    }


def match_denominators(
    model: CADA, params: Any, texts: Int[AnyArray, "M T"], weights: Float32[AnyArray, "M"]
) -> dict[str, Float32[Array, ""]]:
    """What `match_terms` divides by, without decoding: float32 scalars `match` and `group`.

    Which groups count depends on the texts alone.
    """
    undecoded = jnp.zeros((*texts.shape, model.config.text.width), jnp.float32)
    _, of_group = apply(model, jax.lax.stop_gradient(params), "match_groups", undecoded, texts)
    return {"match": jnp.sum(weights), "group": jnp.sum(of_group * weights[:, None])}
