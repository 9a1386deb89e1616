"""`loss.alignment`: words and patches of each pair, beside what ATP and ARA compare."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from ml_collections import ConfigDict

from cada_jax.common.shapes import AnyArray, Array, Bool, Float, Float32, Int
from cada_jax.models.cada import CADA, apply
from cada_jax.objective.quota_transport import quota_transport
from cada_jax.objective.row_loss import Encoded, RowLoss, StepKeys, Terms, normalized_weights


class Tokens(NamedTuple):
    """Words and patches of each pair.

    text: float [B,T,D], of the text encoder without any image; image: float [B,S,Dv]; is_word: bool
    [B,T]; weights: float32 [B] of sum 1, 0 for a caption without a word.
    """

    text: Float[Array, "B T D"] | None
    image: Float[Array, "B S Dv"]
    is_word: Bool[Array, "B T"]
    weights: Float32[Array, "B"]


def is_word(config: ConfigDict, token_ids: Int[AnyArray, "B T"]) -> Bool[Array, "B T"]:
    """True for the words of captions int32 [B,T]: neither padding nor [CLS] nor [SEP]."""
    tokens = config.model.tokens
    special = [token_ids == token for token in (tokens.pad, tokens.cls, tokens.sep)]
    return jnp.asarray(~(special[0] | special[1] | special[2]))


def prepare(
    config: ConfigDict, batch: dict, encoded: Encoded, keys: StepKeys, gather: bool
) -> Tokens:
    """Finds the words; see `row_loss.RowLoss`."""
    del keys, gather
    words = is_word(config, batch["token_ids"])
    weights = normalized_weights(jnp.any(words, axis=1).astype(jnp.float32))
    return Tokens(encoded.text_tokens, encoded.image_tokens, words, weights)


def terms(
    model: CADA, config: ConfigDict, params: Any, tokens: Tokens
) -> tuple[Float32[Array, ""], Terms]:
    """Transport between a caption's words and its image's patches, the mean over captions.

    Both go through the projections of the embeddings, so that no parameter is added.
    """
    words = apply(model, params, "project_text", tokens.text)
    patches = apply(model, params, "project_image", model.patches(tokens.image))
    costs = quota_transport(words, patches, tokens.is_word, config.loss.transport_epsilon)
    loss = jnp.sum(costs * tokens.weights)
    return loss, {"alignment": loss}


ALIGNMENT = RowLoss(
    "alignment_weight",
    lambda config: config.loss.alignment != "off",
    prepare,
    terms,
    reads_text=True,
)
