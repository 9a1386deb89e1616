"""What is minimised: the weighted sum of the global loss, ATP and ARA of one batch.

The global loss compares every row of the batch with every other. The others are sums over rows and
can be computed a part of the batch at a time: `ROW_LOSSES` is the one place that lists them.

Everything random is drawn from the keys given; everything is over the global batch.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cada_jax.common.shapes import AnyArray, Array, Float32, Int, Int32, PRNGKeyArray
from cada_jax.distributed.batch import constrain_rows
from cada_jax.distributed.mesh import is_sharded
from cada_jax.models.cada import CADA, apply
from cada_jax.objective import losses
from cada_jax.objective.accumulation import map_rows, sum_rows
from cada_jax.objective.alignment import ALIGNMENT
from cada_jax.objective.ara import ARA
from cada_jax.objective.atp import ATP
from cada_jax.objective.row_loss import Encoded, StepKeys, Terms, dropout_seeds
from cada_jax.objective.tal import tal

ROW_LOSSES = (ATP, ARA, ALIGNMENT)


def loss_terms(
    model: CADA, config: ConfigDict, params: Any, batch: dict, key: PRNGKeyArray
) -> tuple[Float32[Array, ""], Terms]:
    """All losses of one batch of already normalised images.

    The mesh of JAX's context changes where things are, and `config.train.accumulation` how much of
    the batch is in memory; neither changes what the losses and the gradient of the total are.

    Args:
      batch: train batch whose image is float32 [B,H,W,3], normalised.

    Returns:
      (total, terms): the weighted sum, and what it is made of.
    """
    keys, chunks = split_key(key), config.train.accumulation
    rows, images = len(batch["pid"]), batch["image"]
    seeds = dropout_seeds(config, keys.image, rows), dropout_seeds(config, keys.text, rows)
    encode = functools.partial(encode_pairs, model, config)
    encoded = map_rows(encode, params, (images, batch["token_ids"], *seeds), chunks)
    encoded = encoded._replace(image_tokens=constrain_rows(encoded.image_tokens))
    of_batch = global_loss(config, encoded, batch["pid"])
    inputs = row_inputs(config, batch, encoded, keys, gather=is_sharded() or chunks > 1)
    of_rows, terms = sum_rows(functools.partial(row_losses, model, config), params, inputs, chunks)
    total = config.loss.global_weight * of_batch + of_rows
    return total, {"global": of_batch, **terms, "total": total}


def split_key(key: PRNGKeyArray) -> StepKeys:
    """The keys of a step's draws, from one."""
    return StepKeys(*jax.random.split(key, len(StepKeys._fields)))


def encode_pairs(
    model: CADA,
    config: ConfigDict,
    params: Any,
    rows: tuple[
        Float32[AnyArray, "B H W 3"],
        Int[AnyArray, "B T"],
        Int32[AnyArray, "B 2"] | None,
        Int32[AnyArray, "B 2"] | None,
    ],
) -> Encoded:
    """Encodes (normalised images, captions int32 [B,T], seeds of either)."""
    images, token_ids, image_seeds, text_seeds = rows
    image, image_tokens = apply(model, params, "encode_image", images, seeds=image_seeds)
    text, text_tokens = apply(model, params, "encode_text", token_ids, seeds=text_seeds)
    reads_text = any(loss.used(config) and loss.reads_text for loss in ROW_LOSSES)
    return Encoded(
        image_tokens,
        text_tokens if reads_text else None,
        apply(model, params, "project_image", image),
        apply(model, params, "project_text", text),
    )


def global_loss(
    config: ConfigDict, encoded: Encoded, pids: Int[AnyArray, "B"]
) -> Float32[Array, ""]:
    """The global loss that `config.loss` names, float32 scalar."""
    c, features = config.loss, (encoded.image_features, encoded.text_features)
    if c["global"] == "tal":  # a word of Python's own: no attribute
        return tal(*features, pids, c.tal_margin, c.tal_temperature)
    return losses.ndf(*features, pids, c.scale)


def row_inputs(
    config: ConfigDict, batch: dict, encoded: Encoded, keys: StepKeys, gather: bool
) -> dict[str, Any]:
    """What the losses over rows read, by the field of their weight: chosen for the whole batch.

    With `gather` rows hold all that they read, since a row's chunk or device has no other.
    """
    used = [loss for loss in ROW_LOSSES if loss.used(config)]
    return {loss.weight: loss.prepare(config, batch, encoded, keys, gather) for loss in used}


def row_losses(
    model: CADA, config: ConfigDict, params: Any, inputs: dict[str, Any]
) -> tuple[Float32[Array, ""], Terms]:
    """The weighted sum of the losses over these rows, and what they report: float32 scalars."""
    total, terms = jnp.zeros(()), {}
    for loss in ROW_LOSSES:
        if loss.weight in inputs:
            value, reported = loss.terms(model, config, params, inputs[loss.weight])
            total += config.loss[loss.weight] * value
            terms |= reported
    return total, terms
