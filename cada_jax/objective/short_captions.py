"""Captions cut down to a few of their attribute phrases: what people type who search.

People search with two to five words, and captions have thirty. A model that is trained on captions
alone has never seen "man with green backpack".
"""

import jax
import jax.numpy as jnp

from cada_jax.common.shapes import AnyArray, Array, Bool, Int, PRNGKeyArray

MOST_PHRASES = 3


def shorten_captions(batch: dict, key: PRNGKeyArray, rate: float, sep: int, pad: int) -> dict:
    """A train batch in which some captions are cut down to one to three of their phrases.

    A caption keeps its order. Half of those that are cut keep the words before their phrases as
    well: "is carrying a green bag". A caption without a phrase stays whole.

    Args:
      batch: token_ids, phrase_ids int32 [B,L] and attribute_mask bool [B,L] are changed.
      key: PRNG key; the draws of a row do not depend on how the batch is spread or chunked.
      rate: share of the captions that are cut, in [0,1]; at 0 nothing is drawn.
      sep: id of [SEP].
      pad: id of padding.
    """
    if rate == 0:
        return batch
    kept = choose_tokens(key, rate, batch["token_ids"], batch["phrase_ids"], sep, pad)
    cut = {name: batch[name] for name in ("token_ids", "phrase_ids", "attribute_mask")}
    return batch | keep_tokens(cut, kept, sep, pad)


def choose_tokens(
    key: PRNGKeyArray,
    rate: float,
    token_ids: Int[AnyArray, "B L"],
    phrase_ids: Int[AnyArray, "B L"],
    sep: int,
    pad: int,
) -> Bool[Array, "B L"]:
    """The tokens that captions keep, [CLS] among them and [SEP] and padding not."""
    rows, length = token_ids.shape
    key_row, key_count, key_phrase, key_lead = jax.random.split(key, 4)
    real = (token_ids != pad) & (token_ids != sep)
    # Of a token between two phrases, the phrase behind it.
    leads_to = jnp.where(phrase_ids > 0, phrase_ids, length)
    leads_to = jax.lax.cummin(leads_to, axis=1, reverse=True)
    # Phrases are drawn by the order of random numbers, one for each number of a phrase.
    number = jnp.arange(length, dtype=phrase_ids.dtype)[None]
    drawn = jax.random.uniform(key_phrase, (rows, length))
    drawn = jnp.where((number > 0) & (number <= phrase_ids.max(axis=1)[:, None]), drawn, 2.0)
    place = jnp.argsort(jnp.argsort(drawn, axis=1), axis=1)
    count = jax.random.randint(key_count, (rows, 1), 1, MOST_PHRASES + 1)
    chosen = (place < count) & (drawn < 2.0)
    leads = jax.random.bernoulli(key_lead, 0.5, (rows, 1))
    phrase = jnp.where(leads, jnp.where(leads_to < length, leads_to, 0), phrase_ids)
    kept = jnp.take_along_axis(chosen, phrase, axis=1) | (number == 0)
    whole = ~jax.random.bernoulli(key_row, rate, (rows, 1)) | (phrase_ids == 0).all(1)[:, None]
    return (kept | whole) & real


def keep_tokens(
    arrays: dict[str, AnyArray], kept: Bool[AnyArray, "B L"], sep: int, pad: int
) -> dict[str, Array]:
    """Moves the kept tokens together and closes them with [SEP].

    Args:
      arrays: token_ids, phrase_ids and attribute_mask, [B,L] each.
      kept: bool [B,L], without [SEP], so that there is room for one.
      sep: id of [SEP].
      pad: id of padding.
    """
    place = jnp.arange(kept.shape[1])[None]
    order = jnp.argsort(~kept, axis=1, stable=True)
    count = kept.sum(axis=1)[:, None]
    inside = place < count
    moved = {name: jnp.take_along_axis(x, order, axis=1) for name, x in arrays.items()}
    end = jnp.where(place == count, sep, pad).astype(moved["token_ids"].dtype)
    return {
        "token_ids": jnp.where(inside, moved["token_ids"], end),
        "phrase_ids": jnp.where(inside, moved["phrase_ids"], 0),
        "attribute_mask": moved["attribute_mask"] & inside,
    }
