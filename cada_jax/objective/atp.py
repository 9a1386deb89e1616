"""ATP, the association of text tokens with image patches: match and group losses.

Source: CADA (IEEE TMM 2024), section on ATP. One pass of the decoder over 3B pairs: (T_i, I_i) is a
match, (T_i, I_neg) and (T_neg, I_i) are not.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from ml_collections import ConfigDict

from cada_jax.common.shapes import AnyArray, Array, Float, Float32, Int, Int32, PRNGKeyArray
from cada_jax.distributed.batch import gather_rows
from cada_jax.models.cada import CADA, apply
from cada_jax.objective import losses
from cada_jax.objective.row_loss import (
    Encoded,
    RowLoss,
    StepKeys,
    Terms,
    dropout_seeds,
    normalized_weights,
)
from cada_jax.objective.token_groups import group_ids, group_means


class Pairs(NamedTuple):
    """The three pairs of each row; the first is a match.

    However a batch is spread, a device decodes its own rows.

    Attributes:
      token_ids: int32 [B,3,T].
      group_ids: int32 [B,3,T], the group that a token belongs to, 1 to P-1; 0 for none.
      images: float [B,n,S,Dv]: each row's own (n = 1), or its own and its negative (n = 2).
      image_index: int32 [B,3], the image of each pair: among the row's two, or (n = 1) among all B.
      match_weights: float32 [B,3], of sum 1.
      group_weights: float32 [B,3,P], of sum 1.
      seeds: int32 [B,3,2] or None.
    """

    token_ids: Int[Array, "B 3 T"]
    group_ids: Int[Array, "B 3 T"]
    images: Float[Array, "B n S Dv"]
    image_index: Int32[Array, "B 3"]
    match_weights: Float32[Array, "B 3"]
    group_weights: Float32[Array, "B 3 P"]
    seeds: Int32[Array, "B 3 2"] | None


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
    config: ConfigDict,
    batch: dict,
    image_tokens: Float[Array, "B S Dv"],
    negatives: losses.Negatives,
    seeds: Int32[Array, "M 2"] | None,
    gather: bool,
) -> Pairs:
    """The pairs of a batch with these negatives.

    `gather` brings the negative images' tokens to the rows that want them. On several devices they
    are sent once for all layers; the keys and values that every layer makes of them would weigh 24
    times that. Otherwise an index finds them, so that keys and values are made once for each image.
    """
    rows, of_batch = len(image_tokens), jnp.arange(len(image_tokens), dtype=jnp.int32)

    def triples(of_text):
        return jnp.stack([of_text, of_text, of_text[negatives.text_for_image]], axis=1)

    groups, number = group_ids(config, batch)
    groups = triples(groups)
    images, index = image_tokens[:, None], negatives.image_for_text
    if gather:
        images = jnp.stack([image_tokens, gather_rows(image_tokens, index)], axis=1)
        of_batch, index = jnp.zeros_like(index), jnp.ones_like(index)
    weights = jnp.stack([jnp.ones(rows), negatives.weight, negatives.weight], axis=1)
    numbers = jnp.arange(number)[None, None]
    present = jnp.any(groups[..., None] == numbers[:, :, None], axis=2) & (numbers > 0)
    return Pairs(
        triples(batch["token_ids"]),
        groups,
        images,
        jnp.stack([of_batch, index, of_batch], axis=1),
        normalized_weights(weights),
        normalized_weights(present * weights[..., None]),
        None if seeds is None else seeds.reshape(rows, 3, 2),
    )


def prepare(
    config: ConfigDict, batch: dict, encoded: Encoded, keys: StepKeys, gather: bool
) -> Pairs:
    """Chooses negatives and lays out the pairs; see `row_loss.RowLoss`."""
    features = encoded.image_features, encoded.text_features
    negatives = choose_negatives(config, features, batch["pid"], keys.negative)
    seeds = dropout_seeds(config, keys.decode, 3 * len(batch["pid"]))
    return pairs_to_match(config, batch, encoded.image_tokens, negatives, seeds, gather)


def terms(
    model: CADA, config: ConfigDict, params: Any, pairs: Pairs
) -> tuple[Float32[Array, ""], Terms]:
    """Match and group losses of pairs, and how many are matched right: float32 scalars."""

    def flat(x):
        return x.reshape(-1, *x.shape[2:])

    ids, images, index = flat(pairs.token_ids), flat(pairs.images), pairs.image_index
    seeds = None if pairs.seeds is None else flat(pairs.seeds)
    if pairs.images.shape[1] == 1:
        index = index.reshape(1, -1)
    decoded = apply(model, params, "decode", ids, images, index, seeds=seeds)
    logits = apply(model, params, "match", decoded)
    is_match = (jnp.arange(len(ids)) % 3 == 0).astype(jnp.int32)
    weights, group_weights = flat(pairs.match_weights), flat(pairs.group_weights)
    of_tokens = apply(model, params, "match_tokens", decoded)
    of_groups = group_means(of_tokens, flat(pairs.group_ids), group_weights.shape[-1])
    match = losses.match_loss(logits, is_match, weights)
    group = losses.match_loss(of_groups, is_match[:, None], group_weights)
    right = jnp.sum((jnp.argmax(logits, axis=-1) == is_match) * weights)
    found = {"match": match, "group": group, "match_accuracy": right}
    return match + config.loss.group_weight * group, found


ATP = RowLoss("atp_weight", lambda config: config.loss.atp_weight > 0, prepare, terms)
