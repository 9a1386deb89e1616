"""Groups of tokens that are attribute phrases: `atp.groups=phrases` in place of equal parts."""

import jax
import jax.numpy as jnp

from cada_jax.common.shapes import AnyArray, Array, Float32, Int


def phrase_means(
    values: Float32[AnyArray, "M T K"], phrase_ids: Int[AnyArray, "M T"]
) -> tuple[Float32[Array, "M T K"], Float32[Array, "M T"]]:
    """Means of what tokens carry, over the tokens of each attribute phrase.

    Source: MARS, whose match head reads the decoder's mean state over each chunk of adjectives and
    noun.

    Args:
      values: float32 [M,T,K], K numbers for each token.
      phrase_ids: int32 [M,T], the phrase of each token, 1 to T-1; 0 is no phrase. A caption of T
        tokens has fewer than T phrases, so that none is left out.

    Returns:
      means float32 [M,T,K], entry p of phrase p; weights float32 [M,T], 0 where no token belongs
      to phrase p, and for p = 0, else 1. A mean of weight 0 is 0.
    """
    number = jnp.arange(phrase_ids.shape[1], dtype=phrase_ids.dtype)
    inside = (phrase_ids[:, None, :] == number[None, :, None]) & (number > 0)[None, :, None]
    inside = inside.astype(jnp.float32)
    count = inside.sum(axis=2)
    # Exact: an accelerator would otherwise round logits to bfloat16 before it adds them up.
    total = jnp.einsum("mpt,mtk->mpk", inside, values, precision=jax.lax.Precision.HIGHEST)
    return total / jnp.maximum(count, 1.0)[..., None], (count > 0).astype(jnp.float32)
