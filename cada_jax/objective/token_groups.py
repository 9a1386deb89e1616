"""Groups of tokens that the group loss reads: equal parts of a caption, or its phrases."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cada_jax.common.shapes import AnyArray, Array, Float32, Int, Int32


def group_ids(config: ConfigDict, batch: dict) -> tuple[Int32[AnyArray, "B T"], int]:
    """The group of each token, int32 [B,T], 0 for none; and the number of groups, none included.

    `atp.groups`: so many parts of equal size after position 0, or the phrases that were found at
    preparation. Of parts, `atp.group_pool=valid` leaves [SEP] and padding out; `all` takes them in,
    as the released code does.
    """
    token_ids, c = batch["token_ids"], config.atp
    if c.groups == "phrases":  # of T tokens a caption has fewer than T phrases
        return batch["phrase_ids"], token_ids.shape[1]
    places = jnp.arange(token_ids.shape[1], dtype=jnp.int32)
    # Places in a caption of full length: what was cut off is padding.
    size = (config.data.max_length - 1) // c.groups
    groups = jnp.where(places > 0, (places - 1) // size + 1, 0)
    groups = jnp.broadcast_to(groups[None], token_ids.shape)
    if c.group_pool == "valid":
        tokens = config.model.tokens
        groups = jnp.where((token_ids == tokens.pad) | (token_ids == tokens.sep), 0, groups)
    return groups, c.groups + 1


def group_means(
    values: Float32[AnyArray, "M T K"], groups: Int[AnyArray, "M T"], number: int
) -> Float32[Array, "M {number} K"]:
    """Means of what tokens carry, over the tokens of each group.

    A head that is linear gives for the mean of tokens the mean of what it gives for each. Source of
    phrases as groups: MARS, whose match head reads the decoder's mean state over each chunk of
    adjectives and noun.
    `groups` are in [0, number); 0 is no group. The mean of no tokens is 0.
    """
    inside = (groups[:, None, :] == jnp.arange(number)[None, :, None]).astype(jnp.float32)
    # Exact: an accelerator would otherwise round logits to bfloat16 before it adds them up.
    total = jnp.einsum("mpt,mtk->mpk", inside, values, precision=jax.lax.Precision.HIGHEST)
    return total / jnp.maximum(inside.sum(axis=2), 1.0)[..., None]
