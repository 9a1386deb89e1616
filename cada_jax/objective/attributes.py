"""ARA, the association of image regions with attributes: masked phrases predicted from the image.

Source: CADA (IEEE TMM 2024), section on ARA.
"""

import functools
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from cada_jax.common.shapes import AnyArray, Array, Bool, Float, Float32, Int, PRNGKeyArray
from cada_jax.models.cada import CADA, apply
from cada_jax.objective import losses
from cada_jax.objective.phrase_masking import draw_mask


def mask_of(config: ConfigDict, batch: dict, key: PRNGKeyArray) -> Bool[Array, "B T"]:
    """The tokens that ARA masks in this step, bool [B,T]."""
    c = config.ara
    phrases = batch["phrase_ids"], batch["attribute_mask"]
    return draw_mask(key, c.masking, *phrases, c.phrase_rate, c.token_rate)


def attribute_terms(
    model: CADA,
    params: Any,
    token_ids: Int[AnyArray, "B T"],
    masked: Bool[AnyArray, "B T"],
    image_tokens: Float[AnyArray, "B S Dv"],
    rngs: dict[str, PRNGKeyArray] | None,
) -> dict[str, Float32[Array, ""]]:
    """Predicts the masked attribute phrases of captions from their images.

    Args:
      model: the CADA module.
      params: its parameters.
      token_ids: int32 [B,T].
      masked: bool [B,T], from `mask_of`.
      image_tokens: float [B,S,Dv].
      rngs: dropout key in a dict, or None for no dropout.

    Returns:
      dict of float32 scalars: ara, ara_accuracy, masked_tokens (per caption).
    """
    tokens = model.config.tokens
    inputs = jnp.where(masked, tokens.mask, token_ids), token_ids != tokens.pad, image_tokens
    decoded = apply(model, params, "decode_masked", *inputs, deterministic=rngs is None, rngs=rngs)
    predict = functools.partial(apply, model, params, "masked_logits")
    loss, accuracy = losses.masked_word_loss(predict, decoded, token_ids, masked)
    return {
        "ara": loss,
        "ara_accuracy": accuracy,
        "masked_tokens": jnp.mean(jnp.sum(masked, axis=1).astype(jnp.float32)),
    }
