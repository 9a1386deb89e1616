"""Which tokens ARA masks: drawn on the device from the phrases found at preparation."""

import jax
import jax.numpy as jnp

from cada_jax.common.shapes import AnyArray, Array, Bool, Int, PRNGKeyArray


def draw_mask(
    key: PRNGKeyArray,
    method: str,
    phrase_ids: Int[AnyArray, "B L"],
    attribute_mask: Bool[AnyArray, "B L"],
    phrase_rate: float = 0.8,
    token_rate: float = 0.4,
) -> Bool[Array, "B L"]:
    """Draws the tokens to mask; [CLS], [SEP] and padding belong to no phrase and stay.

    Args:
      method: "phrase", whole attribute phrases with `phrase_rate` each (paper); "token",
        single attribute tokens with `token_rate` each (released code).
      phrase_ids: in [0,L); 0 is no phrase.
      attribute_mask: tokens that "token" may mask.
      phrase_rate: probability in [0,1] that a phrase is masked.
      token_rate: probability in [0,1] that a token is masked.
    """
    drawn = jax.random.uniform(key, phrase_ids.shape)
    if method == "phrase":
        # One number per phrase: every token of a phrase reads the entry of its phrase.
        drawn = jnp.take_along_axis(drawn, phrase_ids, axis=1)
        return (drawn < phrase_rate) & (phrase_ids > 0)
    return (drawn < token_rate) & attribute_mask
