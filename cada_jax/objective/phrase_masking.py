"""Which tokens ARA masks: drawn on the device from the phrases found at preparation."""

import jax
import jax.numpy as jnp


def draw_mask(
    key: jax.Array,
    method: str,
    phrase_ids: jax.Array,
    attribute_mask: jax.Array,
    phrase_rate: float = 0.8,
    token_rate: float = 0.4,
) -> jax.Array:
    """Draws the tokens to mask; [CLS], [SEP] and padding belong to no phrase and stay.

    Args:
      key: PRNG key.
      method: "phrase", whole attribute phrases with `phrase_rate` each (paper); "token",
        single attribute tokens with `token_rate` each (released code).
      phrase_ids: int32 [B,L] in [0,L); 0 is no phrase.
      attribute_mask: bool [B,L], tokens that "token" may mask.
      phrase_rate: probability in [0,1] that a phrase is masked.
      token_rate: probability in [0,1] that a token is masked.

    Returns:
      bool [B,L].

    Raises:
      ValueError: unknown method.
    """
    drawn = jax.random.uniform(key, phrase_ids.shape)
    if method == "phrase":
        # One number per phrase: every token of a phrase reads the entry of its phrase.
        drawn = jnp.take_along_axis(drawn, phrase_ids, axis=1)
        return (drawn < phrase_rate) & (phrase_ids > 0)
    if method == "token":
        return (drawn < token_rate) & attribute_mask
    raise ValueError(f"config.ara.masking is {method!r}; allowed: 'phrase', 'token'")
