"""ATP, the association of text tokens with image patches: match and group losses.

Source: CADA (IEEE TMM 2024), section on ATP. One pass of the decoder over 3B pairs: (I_i, T_i) is a
match, (I_neg, T_i) and (I_i, T_neg) are not.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cada_jax.common.shapes import AnyArray, Array, Float, Float32, Int, Int32, PRNGKeyArray
from cada_jax.models.cada import CADA, apply
from cada_jax.objective import losses
from cada_jax.objective.phrase_groups import phrase_means


class Texts(NamedTuple):
    """The texts that are decoded, three for each row of the batch; the first is a match.

    Attributes:
      token_ids: int32 [3B,T].
      weights: float32 [3B], 0 where a row has no negative.
      phrase_ids: int32 [3B,T], the attribute phrase of each token, 0 for none; None where groups
        are consecutive tokens.
      text_index: int32 [3B], which of the batch each is; None where a part of the batch may be
        decoded by itself.
    """

    token_ids: Int[Array, "3*B T"]
    weights: Float32[Array, "3*B"]
    phrase_ids: Int[Array, "3*B T"] | None = None
    text_index: Int32[Array, "3*B"] | None = None


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
    token_ids: Int[AnyArray, "B T"],
    negatives: losses.Negatives,
    phrase_ids: Int[AnyArray, "B T"] | None = None,
) -> Texts:
    """The texts that are decoded, in the order (T_i with I_i, T_i with I_neg, T_neg with I_i).

    The three of a row stay together: however a batch is spread, a device decodes its own rows.

    Args:
      token_ids: int32 [B,T].
      negatives: of the batch.
      phrase_ids: int32 [B,T], where the groups are phrases; they go with their texts.
    """

    def triples(of_text):
        return jnp.stack([of_text, of_text, of_text[negatives.text_for_image]], axis=1)

    def flat(of_three):
        return of_three.reshape(-1, of_three.shape[-1])

    texts, weight = triples(token_ids), negatives.weight
    weights = jnp.stack([jnp.ones_like(weight), weight, weight], axis=1)
    phrases = None if phrase_ids is None else flat(triples(phrase_ids))
    return Texts(flat(texts), weights.reshape(-1), phrases)


def images_to_match(
    own: Float[AnyArray, "B S Dv"], negative: Float[AnyArray, "B S Dv"]
) -> tuple[Float[Array, "2*B S Dv"], Int32[Array, "B 3"]]:
    """Images of `pairs_to_match`, each row's own beside its negative, and the index into them.

    Args:
      own: float [B,S,Dv].
      negative: float [B,S,Dv], those of another person.

    Returns:
      image tokens [2B,S,Dv] and an index [B,3] as `CADA.decode` takes it.
    """
    images = jnp.stack([own, negative], axis=1).reshape(-1, *own.shape[1:])
    return images, jnp.broadcast_to(jnp.array([0, 1, 0], jnp.int32)[None], (len(own), 3))


def indices_to_match(
    negatives: losses.Negatives,
) -> tuple[Int32[Array, "M"], Int32[Array, "M"]]:
    """Image and text of each pair of `pairs_to_match` among the B of the batch, int32 [3B] each."""
    rows = jnp.arange(len(negatives.image_for_text), dtype=jnp.int32)
    images = jnp.stack([rows, negatives.image_for_text, rows], axis=1)
    texts = jnp.stack([rows, rows, negatives.text_for_image], axis=1)
    return images.reshape(-1), texts.reshape(-1)


def match_terms(
    model: CADA,
    params: Any,
    texts: Texts,
    images: Float[AnyArray, "_ S Dv"],
    image_index: Int[AnyArray, "M"] | Int[AnyArray, "B 3"] | None,
    rngs: dict[str, PRNGKeyArray] | None,
) -> dict[str, Float32[Array, ""]]:
    """Match and group losses of decoded pairs; the first of every three is a match.

    Args:
      model: the CADA module.
      params: its parameters.
      texts: from `pairs_to_match`.
      images: image tokens float [B or 2B,S,Dv].
      image_index: the image of each text, as `CADA.decode` takes it.
      rngs: dropout key in a dict, or None for no dropout.

    Returns:
      dict of float32 scalars: match, group, match_accuracy.
    """
    weights = texts.weights
    decoded = _decoded(model, params, texts, (images, image_index), rngs)
    is_match = (jnp.arange(len(weights)) % 3 == 0).astype(jnp.int32)
    logits = apply(model, params, "match", decoded)
    group_logits, group_weight = match_groups(model, params, decoded, texts)
    correct = (jnp.argmax(logits, axis=-1) == is_match).astype(jnp.float32)
    return {
        "match": losses.match_loss(logits, is_match, weights),
        "group": losses.match_loss(
            group_logits, is_match[:, None], group_weight * weights[:, None]
        ),
        "match_accuracy": losses.weighted_mean(correct, weights),
    }


def _decoded(model, params, texts, images, rngs):
    """`CADA.decode` of all texts; where it pays, the first self-attention once for equal ones."""
    ids, index = texts.token_ids, texts.text_index
    if index is None or rngs is not None or not model.splits_layers():
        return apply(model, params, "decode", ids, *images, deterministic=rngs is None, rngs=rngs)
    attended = apply(model, params, "attend_text", ids[::3])[index]
    valid = ids != model.config.tokens.pad
    return apply(model, params, "decode_attended", attended, valid, *images)


def match_groups(
    model: CADA, params: Any, decoded: Float[AnyArray, "M T D"], texts: Texts
) -> tuple[Float32[Array, "M n 2"], Float32[Array, "M n"]]:
    """Match logits of each text's groups of tokens, float32 [M,n,2], and their weights [M,n].

    Groups are consecutive tokens, see `CADA.match_groups`, or phrases, see `phrase_means`.
    """
    if texts.phrase_ids is None:
        return apply(model, params, "match_groups", decoded, texts.token_ids)
    return phrase_means(apply(model, params, "match_tokens", decoded), texts.phrase_ids)


def match_denominators(model: CADA, params: Any, texts: Texts) -> dict[str, Float32[Array, ""]]:
    """What `match_terms` divides by, without decoding: float32 scalars `match` and `group`.

    Which groups count depends on the texts alone.
    """
    undecoded = jnp.zeros((*texts.token_ids.shape, model.config.text.width), jnp.float32)
    _, of_group = match_groups(model, jax.lax.stop_gradient(params), undecoded, texts)
    weights = texts.weights
    return {"match": jnp.sum(weights), "group": jnp.sum(of_group * weights[:, None])}
