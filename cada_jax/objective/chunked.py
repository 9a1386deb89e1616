"""The objective's gradient with a part of the batch in memory at a time; see `grad_cache`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cada_jax.common.shapes import Array, Float32, PRNGKeyArray
from cada_jax.distributed.batch import merge_rows, split_rows
from cada_jax.models.cada import CADA
from cada_jax.objective import grad_cache, objective


def accumulated_gradient(
    model: CADA, config: ConfigDict, params: dict, batch: dict, key: PRNGKeyArray
) -> tuple[tuple[Float32[Array, ""], dict[str, Float32[Array, ""]]], Any]:
    """`objective.loss_terms` and its gradient, `config.train.accumulation` chunks one by one.

    The same losses, negatives, masks and dropout of the whole batch, whatever the number of chunks.
    The arguments are those of `objective.loss_terms`. Returns ((total, terms), gradient).
    """
    keys = objective.split_key(key)
    chunks = config.train.accumulation
    split = functools.partial(split_rows, chunks=chunks)

    def encode(params, chunk):
        number, images, token_ids = chunk
        with grad_cache.draws_of_chunk(number, chunks):
            return objective.encode_pairs(model, config, params, images, token_ids, keys)

    def whole(encoded):
        encoded = jax.tree.map(merge_rows, encoded)
        terms = objective.batch_terms(config, encoded.features, batch)
        inputs = objective.row_inputs(config, batch, encoded, keys, gather=True)
        inputs = jax.tree.map(split, inputs)
        rest = inputs._replace(image_tokens=None, negative_tokens=None, text_tokens=None)
        counts = jax.lax.map(
            functools.partial(objective.row_denominators, model, config, params), rest
        )
        shares = {name: c / jnp.maximum(jnp.sum(c), 1.0) for name, c in counts.items()}
        routed = {
            "image_tokens": inputs.image_tokens,
            "negative_tokens": inputs.negative_tokens,
            "text_tokens": inputs.text_tokens,
        }
        fixed = {"number": jnp.arange(chunks), "inputs": rest, "shares": shares}
        return (objective.weighted_sum(config, terms), routed), (fixed, terms)

    def part(params, routed, fixed):
        inputs = fixed["inputs"]._replace(**routed)
        with grad_cache.draws_of_chunk(fixed["number"], chunks):
            terms = objective.row_terms(model, config, params, inputs, keys)
        terms = {name: value * fixed["shares"][name] for name, value in terms.items()}
        return objective.weighted_sum(config, terms), terms

    data = (jnp.arange(chunks), split(batch["image"]), split(batch["token_ids"]))
    (total, terms), gradient = grad_cache.value_and_grad(encode, whole, part, params, data)
    return (total, terms | {"total": total}), gradient
