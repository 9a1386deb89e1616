"""The objective's gradient with a part of the batch in memory at a time; see `accumulate`."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cada_jax.distributed import batch as batch_lib
from cada_jax.models.cada import CADA
from cada_jax.objective import grad_cache, losses, objective


def accumulated_gradient(
    model: CADA,
    config: ConfigDict,
    params: dict,
    batch: dict,
    key: jax.Array,
    mesh: Mesh | None = None,
):
    """`objective.loss_terms` and its gradient, `config.train.accumulation` chunks one by one.

    The same losses, negatives, masks and dropout of the whole batch, whatever the number of chunks.
    The arguments are those of `objective.loss_terms`. Returns ((total, terms), gradient).
    """
    keys = objective.split_key(key)
    chunks, weights = config.train.accumulation, config.loss
    split = functools.partial(batch_lib.split_rows, chunks=chunks, mesh=mesh)
    merge = functools.partial(batch_lib.merge_rows, mesh=mesh)
    token_ids = batch["token_ids"]

    def encode(params, chunk):
        number, images, token_ids = chunk
        with grad_cache.draws_of_chunk(number, chunks, mesh):
            return objective.encode_pairs(model, config, params, images, token_ids, keys)

    def whole(encoded):
        image_tokens, *features = (merge(x) for x in encoded)
        loss = losses.ndf(*features, batch["pid"], weights.scale)
        routed, fixed = {"own": split(image_tokens)}, {"number": jnp.arange(chunks)}
        if weights.atp_weight:
            negatives = objective.choose_negatives(config, features, batch["pid"], keys.negative)
            chosen = batch_lib.gather_rows(image_tokens, negatives.image_for_text, mesh)
            routed["negative"] = split(chosen)
            texts, weight = objective.pairs_to_match(token_ids, negatives)
            fixed |= _shares_of_match(model, params, texts, weight, split)
        if weights.ara_weight:
            masked = objective.mask_of(config, batch, keys.mask)
            count = jnp.maximum(jnp.sum(masked), 1)
            fixed |= {"token_ids": split(token_ids), "masked": split(masked)}
            fixed["of_masked"] = jnp.sum(fixed["masked"], axis=(1, 2)) / count
        return (weights.global_weight * loss, routed), (fixed, {"global": loss})

    def part(params, routed, fixed):
        loss, terms = jnp.zeros(()), {}
        with grad_cache.draws_of_chunk(fixed["number"], chunks, mesh):
            if weights.atp_weight:
                images = objective.images_to_match(routed["own"], routed["negative"])
                rngs = objective.dropout_rngs(config, keys.decode)
                terms |= objective.match_terms(
                    model, params, fixed["texts"], fixed["weight"], *images, rngs
                )
                for name in ("match", "group", "match_accuracy"):
                    terms[name] *= fixed["of_groups" if name == "group" else "of_pairs"]
                loss += weights.atp_weight * (terms["match"] + terms["group"])
            if weights.ara_weight:
                given = fixed["token_ids"], fixed["masked"], routed["own"]
                rngs = objective.dropout_rngs(config, keys.predict)
                terms |= objective.attribute_losses(model, params, config, *given, rngs)
                for name in ("ara", "ara_accuracy", "masked_tokens"):
                    terms[name] *= 1 / chunks if name == "masked_tokens" else fixed["of_masked"]
                loss += weights.ara_weight * terms["ara"]
        return loss, terms

    data = (jnp.arange(chunks), split(batch["image"]), split(token_ids))
    (total, terms), gradient = grad_cache.value_and_grad(encode, whole, part, params, data)
    return (total, terms | {"total": total}), gradient


def _shares_of_match(model, params, texts, weight, split) -> dict:
    """Texts and weights of each chunk, and its share in the means over pairs and over groups."""
    # Which groups count depends on the texts alone: nothing needs to be decoded for it.
    decoded = jnp.zeros((*texts.shape, model.config.text.width), jnp.float32)
    variables = {"params": jax.lax.stop_gradient(params)}
    _, of_group = model.apply(variables, decoded, texts, method="match_groups")
    of_group = split(of_group * weight[:, None])
    shares = {"texts": split(texts), "weight": split(weight)}
    for name, counted in (("of_pairs", shares["weight"]), ("of_groups", of_group)):
        of_chunk = jnp.sum(counted, axis=tuple(range(1, counted.ndim)))
        shares[name] = of_chunk / jnp.maximum(jnp.sum(of_chunk), 1.0)
    return shares
