"""ARA, the association of image regions with attributes: masked phrases predicted from the image.

Source: CADA (IEEE TMM 2024), section on ARA.
"""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from ml_collections import ConfigDict

from cada_jax.common.shapes import Array, Bool, Float, Float32, Int, Int32, PRNGKeyArray
from cada_jax.models.cada import CADA, apply
from cada_jax.objective import losses
from cada_jax.objective.phrase_masking import draw_mask
from cada_jax.objective.row_loss import Encoded, RowLoss, StepKeys, Terms, dropout_seeds


class MaskedCaptions(NamedTuple):
    """Captions whose attribute phrases are masked.

    Attributes:
      token_ids: int32 [B,T], the words before masking.
      masked: bool [B,T].
      images: float [B,S,Dv].
      token_weights: float32 [B], 1 over the masked tokens of the batch.
      row_weights: float32 [B], 1 / B.
      seeds: int32 [B,2] or None.
    """

    token_ids: Int[Array, "B T"]
    masked: Bool[Array, "B T"]
    images: Float[Array, "B S Dv"]
    token_weights: Float32[Array, "B"]
    row_weights: Float32[Array, "B"]
    seeds: Int32[Array, "B 2"] | None


def mask_of(config: ConfigDict, batch: dict, key: PRNGKeyArray) -> Bool[Array, "B T"]:
    """The tokens that ARA masks in this step, bool [B,T]."""
    c = config.ara
    phrases = batch["phrase_ids"], batch["attribute_mask"]
    return draw_mask(key, c.masking, *phrases, c.phrase_rate, c.token_rate)


def prepare(
    config: ConfigDict, batch: dict, encoded: Encoded, keys: StepKeys, gather: bool
) -> MaskedCaptions:
    """Draws the masks; see `row_loss.RowLoss`. A batch without any masked token has the loss 0."""
    del gather
    masked = mask_of(config, batch, keys.mask)
    rows = len(masked)
    tokens = jnp.maximum(jnp.sum(masked), 1).astype(jnp.float32)
    return MaskedCaptions(
        batch["token_ids"],
        masked,
        encoded.image_tokens,
        jnp.full(rows, 1.0 / tokens),
        jnp.full(rows, 1.0 / rows),
        dropout_seeds(config, keys.predict, rows),
    )


def terms(
    model: CADA, config: ConfigDict, params: Any, captions: MaskedCaptions
) -> tuple[Float32[Array, ""], Terms]:
    """Cross-entropy of masked words, the share predicted right, and their number a caption."""
    del config
    tokens, ids = model.config.tokens, captions.token_ids
    seen = jnp.where(captions.masked, tokens.mask, ids), ids != tokens.pad, captions.images
    decoded = apply(model, params, "decode_masked", *seen, seeds=captions.seeds)
    predict = functools.partial(apply, model, params, "masked_logits")
    words = ids, captions.masked, captions.token_weights
    loss, accuracy = losses.masked_word_loss(predict, decoded, *words)
    number = jnp.sum(captions.masked * captions.row_weights[:, None])
    return loss, {"ara": loss, "ara_accuracy": accuracy, "masked_tokens": number}


ARA = RowLoss("ara_weight", lambda config: config.loss.ara_weight > 0, prepare, terms)
