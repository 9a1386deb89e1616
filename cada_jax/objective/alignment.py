"""`loss.alignment`: words and patches of each pair, beside what ATP and ARA compare."""

from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from cada_jax.common.shapes import AnyArray, Array, Bool, Float, Float32, Int
from cada_jax.models.cada import CADA, apply
from cada_jax.objective import losses
from cada_jax.objective.quota_transport import quota_transport


def is_word(model: CADA, token_ids: Int[AnyArray, "B T"]) -> Bool[Array, "B T"]:
    """True for the words of captions int32 [B,T]: neither padding nor [CLS] nor [SEP]."""
    tokens = model.config.tokens
    special = [token_ids == token for token in (tokens.pad, tokens.cls, tokens.sep)]
    return jnp.asarray(~(special[0] | special[1] | special[2]))


def alignment_terms(
    model: CADA,
    config: ConfigDict,
    params: Any,
    token_ids: Int[AnyArray, "B T"],
    text_tokens: Float[AnyArray, "B T D"],
    image_tokens: Float[AnyArray, "B S Dv"],
) -> dict[str, Float32[Array, ""]]:
    """Transport between a caption's words and its image's patches, the mean over captions.

    Both go through the projection that makes the embedding of [CLS], so that no parameter is added.

    Args:
      model: the CADA module.
      config: full config.
      params: its parameters.
      token_ids: int32 [B,T].
      text_tokens: float [B,T,D] of the text encoder, without any image.
      image_tokens: float [B,S,Dv], [CLS] first.

    Returns:
      dict of a float32 scalar: alignment.
    """
    words = _projected(model, params, "project_text", text_tokens)
    patches = _projected(model, params, "project_image", image_tokens[:, 1:])
    real = is_word(model, token_ids)
    values, weights = quota_transport(words, patches, real, config.loss.transport_epsilon)
    return {"alignment": losses.weighted_mean(values, weights)}


def alignment_denominator(model: CADA, token_ids: Int[AnyArray, "B T"]) -> Float32[Array, ""]:
    """What `alignment_terms` divides by, captions with a word: float32 scalar."""
    return jnp.sum(jnp.any(is_word(model, token_ids), axis=1)).astype(jnp.float32)


def _projected(
    model: CADA, params: Any, method: str, tokens: Float[AnyArray, "B T D"]
) -> Float32[Array, "B T E"]:
    """Every token through the projection of [CLS], as though it came first."""
    rows = tokens.reshape(-1, 1, tokens.shape[-1])
    return apply(model, params, method, rows).reshape(*tokens.shape[:2], -1)
