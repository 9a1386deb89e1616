"""What a loss that is a sum over the rows of a batch is made of, and what it is given.

`prepare` sees the whole batch once. It draws, it chooses, and it divides by what the mean is over:
its weights sum to 1 over the batch. `terms` then is a plain sum over rows. The batch may be cut
into chunks between the two: their sums add up to the whole (`accumulation`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cada_jax.common.shapes import AnyArray, Array, Float, Float32, Int32, PRNGKeyArray
from cada_jax.distributed.batch import constrain_rows
from cada_jax.models.ops import random_bits

Terms = dict[str, Float32[Array, ""]]


class StepKeys(NamedTuple):
    """What a step draws from, apart from augmentation."""

    image: PRNGKeyArray
    text: PRNGKeyArray
    negative: PRNGKeyArray
    decode: PRNGKeyArray
    mask: PRNGKeyArray
    predict: PRNGKeyArray


class Encoded(NamedTuple):
    """What the encoders make of B pairs.

    Attributes:
      image_tokens: float [B,S,Dv].
      text_tokens: float [B,T,D]; None where no loss reads them.
      image_features: float32 [B,E], not normalised.
      text_features: float32 [B,E], not normalised.
    """

    image_tokens: Float[Array, "B S Dv"]
    text_tokens: Float[Array, "B T D"] | None
    image_features: Float32[Array, "B E"]
    text_features: Float32[Array, "B E"]


class RowLoss(NamedTuple):
    """One loss over rows; a module makes one and `objective.ROW_LOSSES` lists it.

    Attributes:
      weight: the field of `config.loss` that weighs it.
      used: config -> whether it is computed at all.
      prepare: (config, batch, encoded, keys, gather) -> a pytree of arrays, each with an entry for
        every row of the batch; see `objective.row_inputs`.
      terms: (model, config, params, of what `prepare` made these rows) -> (the loss, float32
        scalars to report); sums over the rows, both.
      reads_text: `prepare` wants the text encoder's tokens.
    """

    weight: str
    used: Callable[[ConfigDict], bool]
    prepare: Callable[[ConfigDict, dict, Encoded, StepKeys, bool], Any]
    terms: Callable[[Any, ConfigDict, Any, Any], tuple[Float32[Array, ""], Terms]]
    reads_text: bool = False


def dropout_seeds(
    config: ConfigDict, key: PRNGKeyArray, rows: int
) -> Int32[Array, "{rows} 2"] | None:
    """Seeds of dropout and drop path, int32 [rows,2]; None where nothing is dropped."""
    if not (config.model.text.dropout > 0 or config.model.image.drop_path > 0):
        return None
    return constrain_rows(random_bits.row_seeds(key, jnp.arange(rows, dtype=jnp.int32)))


def normalized_weights(weights: Float32[AnyArray, "*axes"]) -> Float32[Array, "*axes"]:
    """Weights of 0 and 1 divided by their sum; of a batch without any they stay 0."""
    return jnp.asarray(weights) / jnp.maximum(jax.lax.stop_gradient(jnp.sum(weights)), 1.0)
