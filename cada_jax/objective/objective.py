"""What is minimised: the global loss, ATP and ARA of one batch.

Everything random is drawn from the keys given; everything is over the global batch.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cada_jax.distributed import batch as batch_lib
from cada_jax.distributed import mesh as mesh_lib
from cada_jax.models.cada import CADA
from cada_jax.objective import losses
from cada_jax.objective.phrase_masking import draw_mask


def choose_negatives(config: ConfigDict, features, pids, key: jax.Array) -> losses.Negatives:
    """`losses.choose_negatives` of (image, text) embeddings float32 [B,E], as `config.atp` says."""
    c = config.atp
    return losses.choose_negatives(*features, pids, c.negatives, c.temperature, key)


def pairs_to_match(token_ids, negatives: losses.Negatives) -> tuple[jax.Array, jax.Array]:
    """The texts that are decoded, in the order (T_i with I_i, T_i with I_neg, T_neg with I_i).

    The three of a row stay together: however a batch is spread, a device decodes its own rows.

    Returns:
      token ids int32 [3B,T] and weights float32 [3B].
    """
    texts = jnp.stack([token_ids, token_ids, token_ids[negatives.text_for_image]], axis=1)
    weight = negatives.weight
    weights = jnp.stack([jnp.ones_like(weight), weight, weight], axis=1)
    return texts.reshape(-1, texts.shape[-1]), weights.reshape(-1)


def images_to_match(own, negative) -> tuple[jax.Array, jax.Array]:
    """Images of `pairs_to_match`, each row's own beside its negative, and the index into them.

    Args:
      own: float [B,S,Dv].
      negative: float [B,S,Dv], those of another person.

    Returns:
      image tokens [2B,S,Dv] and an index [B,3] as `CADA.decode` takes it.
    """
    images = jnp.stack([own, negative], axis=1).reshape(-1, *own.shape[1:])
    return images, jnp.broadcast_to(jnp.array([0, 1, 0], jnp.int32)[None], (len(own), 3))


def match_terms(model, params, token_ids, weights, images, image_index, rngs) -> dict:
    """Match and group losses of decoded pairs; the first of every three is a match.

    Args:
      model: the CADA module.
      params: its parameters.
      token_ids: int32 [3B,T], from `pairs_to_match`, as `weights` are.
      weights: float32 [3B].
      images: float [B or 2B,S,Dv].
      image_index: which of them each text attends, as `CADA.decode` takes it.
      rngs: dropout key in a dict, or None for no dropout.

    Returns:
      dict of float32 scalars: match, group, match_accuracy.
    """
    variables = {"params": params}
    decoded = model.apply(
        variables,
        token_ids,
        images,
        image_index,
        deterministic=rngs is None,
        rngs=rngs,
        method="decode",
    )
    is_match = (jnp.arange(len(token_ids)) % 3 == 0).astype(jnp.int32)
    logits = model.apply(variables, decoded, method="match")
    group_logits, group_weight = model.apply(variables, decoded, token_ids, method="match_groups")
    correct = (jnp.argmax(logits, axis=-1) == is_match).astype(jnp.float32)
    return {
        "match": losses.match_loss(logits, is_match, weights),
        "group": losses.match_loss(
            group_logits, is_match[:, None], group_weight * weights[:, None]
        ),
        "match_accuracy": losses.weighted_mean(correct, weights),
    }


def association_losses(
    model, params, config, batch, image_tokens, features, key, rngs, mesh: Mesh | None = None
):
    """ATP: match and group losses of positives and chosen negatives.

    One pass over 3B sequences: (I_i, T_i), (I_neg, T_i), (I_i, T_neg).

    Args:
      model: the CADA module.
      params: its parameters.
      config: full config.
      batch: train batch of B pairs.
      image_tokens: float [B,S,Dv].
      features: un-normalised (image, text) embeddings, float32 [B,E] each.
      key: for sampled negatives.
      rngs: dropout key in a dict, or None for no dropout.
      mesh: over which the batch is spread. On several devices the tokens of the negative images
        travel once; the keys and values that every layer makes of them would weigh 24 times that.

    Returns:
      dict of float32 scalars: match, group, match_accuracy.
    """
    negatives = choose_negatives(config, features, batch["pid"], key)
    token_ids, weights = pairs_to_match(batch["token_ids"], negatives)
    if mesh_lib.is_sharded(mesh):
        chosen = batch_lib.gather_rows(image_tokens, negatives.image_for_text, mesh)
        images, image_index = images_to_match(image_tokens, chosen)
    else:
        rows = jnp.arange(len(image_tokens), dtype=jnp.int32)
        images = image_tokens
        image_index = jnp.stack([rows, negatives.image_for_text, rows], axis=1).reshape(-1)
    return match_terms(model, params, token_ids, weights, images, image_index, rngs)


def mask_of(config: ConfigDict, batch: dict, key: jax.Array) -> jax.Array:
    """The tokens that ARA masks in this step, bool [B,T]."""
    return draw_mask(
        key,
        config.ara.masking,
        batch["phrase_ids"],
        batch["attribute_mask"],
        config.ara.phrase_rate,
        config.ara.token_rate,
    )


def attribute_losses(model, params, config, token_ids, masked, image_tokens, rngs):
    """ARA: predicts the masked attribute phrases of captions from their images.

    Args:
      model: the CADA module.
      params: its parameters.
      config: full config.
      token_ids: int32 [B,T].
      masked: bool [B,T], from `mask_of`.
      image_tokens: float [B,S,Dv].
      rngs: dropout key in a dict, or None for no dropout.

    Returns:
      dict of float32 scalars: ara, ara_accuracy, masked_tokens (per caption).
    """
    decoded = model.apply(
        {"params": params},
        jnp.where(masked, config.model.tokens.mask, token_ids),
        token_ids != config.model.tokens.pad,
        image_tokens,
        deterministic=rngs is None,
        rngs=rngs,
        method="decode_masked",
    )
    predict = functools.partial(model.apply, {"params": params}, method="masked_logits")
    loss, accuracy = losses.masked_word_loss(predict, decoded, token_ids, masked)
    return {
        "ara": loss,
        "ara_accuracy": accuracy,
        "masked_tokens": jnp.mean(jnp.sum(masked, axis=1).astype(jnp.float32)),
    }


class Keys(NamedTuple):
    """What a step draws from, apart from augmentation."""

    image: jax.Array
    text: jax.Array
    negative: jax.Array
    decode: jax.Array
    mask: jax.Array
    predict: jax.Array


def split_key(key: jax.Array) -> Keys:
    """The keys of a step's draws, from one."""
    return Keys(*jax.random.split(key, len(Keys._fields)))


def dropout_rngs(config: ConfigDict, key: jax.Array) -> dict | None:
    """The dropout key in a dict; None for a network that draws nothing."""
    random = config.model.text.dropout > 0 or config.model.image.drop_path > 0
    return {"dropout": key} if random else None


def encode_pairs(model, config, params, images, token_ids, keys: Keys):
    """Image tokens [B,S,Dv], and un-normalised image and text embeddings float32 [B,E]."""

    def apply(method, inputs, key):
        rngs = dropout_rngs(config, key)
        return model.apply(
            {"params": params}, inputs, deterministic=rngs is None, rngs=rngs, method=method
        )

    image_tokens = apply("encode_image", images, keys.image)
    text_tokens = apply("encode_text", token_ids, keys.text)
    return (
        image_tokens,
        model.apply({"params": params}, image_tokens, method="project_image"),
        model.apply({"params": params}, text_tokens, method="project_text"),
    )


def loss_terms(
    model: CADA,
    config: ConfigDict,
    params: dict,
    batch: dict,
    key: jax.Array,
    mesh: Mesh | None = None,
):
    """All losses of one batch of already normalised images.

    Args:
      model: the CADA module.
      config: full config.
      params: its parameters.
      batch: train batch whose image is float32 [B,H,W,3], normalised.
      key: PRNG key of this step.
      mesh: over which the batch is spread; it changes where things are, not what they are.

    Returns:
      (total, terms): the weighted sum, and a dict of float32 scalars.
    """
    keys = split_key(key)
    image_tokens, *features = encode_pairs(
        model, config, params, batch["image"], batch["token_ids"], keys
    )
    image_tokens = batch_lib.constrain_rows(image_tokens, mesh)
    weights = config.loss
    terms = {"global": losses.ndf(*features, batch["pid"], weights.scale)}
    total = weights.global_weight * terms["global"]
    if weights.atp_weight:
        rngs = dropout_rngs(config, keys.decode)
        terms |= association_losses(
            model, params, config, batch, image_tokens, features, keys.negative, rngs, mesh
        )
        total += weights.atp_weight * (terms["match"] + terms["group"])
    if weights.ara_weight:
        rngs, masked = dropout_rngs(config, keys.predict), mask_of(config, batch, keys.mask)
        terms |= attribute_losses(
            model, params, config, batch["token_ids"], masked, image_tokens, rngs
        )
        total += weights.ara_weight * terms["ara"]
    return total, terms | {"total": total}
