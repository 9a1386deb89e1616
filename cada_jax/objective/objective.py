"""What is minimised: the weighted sum of the global loss, ATP and ARA of one batch.

A term is computed in one of two places: `batch_terms` compares every row of the batch with every
other, `row_terms` is a mean over rows and can be computed a part of the batch at a time
(`chunked`). `WEIGHTS` is the one place that says what is added up.

Everything random is drawn from the keys given; everything is over the global batch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cada_jax.common.shapes import AnyArray, Array, Bool, Float, Float32, Int, Int32, PRNGKeyArray
from cada_jax.distributed.batch import constrain_rows, gather_rows
from cada_jax.distributed.mesh import is_sharded
from cada_jax.models.cada import CADA, apply
from cada_jax.objective import alignment, association, attributes, losses
from cada_jax.objective.tal import tal

# Field of config.loss -> the terms that it weighs. A term that is absent counts nothing.
WEIGHTS = {
    "global_weight": ("global",),
    "atp_weight": ("match", "group"),
    "ara_weight": ("ara",),
    "alignment_weight": ("alignment",),
}
# Un-normalised (image, text) embeddings of a batch's pairs.
Features = tuple[Float32[AnyArray, "B E"], Float32[AnyArray, "B E"]]


def weighted_sum(config: ConfigDict, terms: dict[str, Float32[Array, ""]]) -> Float32[Array, ""]:
    """The total of the terms that are there, weighed by `config.loss`: float32 scalar."""
    total = jnp.zeros(())
    for field, names in WEIGHTS.items():
        present = [_share(config, name, terms[name]) for name in names if name in terms]
        if present:
            total += config.loss[field] * sum(present[1:], start=present[0])
    return total


def _share(config: ConfigDict, name: str, term: Float32[Array, ""]) -> Float32[Array, ""]:
    """A term times what it weighs within its line of `WEIGHTS`."""
    share = config.loss.group_weight if name == "group" else 1.0
    return term if share == 1.0 else share * term


class StepKeys(NamedTuple):
    """What a step draws from, apart from augmentation."""

    image: PRNGKeyArray
    text: PRNGKeyArray
    negative: PRNGKeyArray
    decode: PRNGKeyArray
    mask: PRNGKeyArray
    predict: PRNGKeyArray


def split_key(key: PRNGKeyArray) -> StepKeys:
    """The keys of a step's draws, from one."""
    return StepKeys(*jax.random.split(key, len(StepKeys._fields)))


def dropout_rngs(config: ConfigDict, key: PRNGKeyArray) -> dict[str, PRNGKeyArray] | None:
    """The dropout key in a dict; None for a network that draws nothing."""
    random = config.model.text.dropout > 0 or config.model.image.drop_path > 0
    return {"dropout": key} if random else None


class Encoded(NamedTuple):
    """What the encoders make of B pairs.

    Attributes:
      image_tokens: float [B,S,Dv].
      image_features: float32 [B,E], not normalised.
      text_features: float32 [B,E], not normalised.
      text_tokens: float [B,T,D]; None where no loss reads them.
    """

    image_tokens: Float[Array, "B S Dv"]
    image_features: Float32[Array, "B E"]
    text_features: Float32[Array, "B E"]
    text_tokens: Float[Array, "B T D"] | None = None

    @property
    def features(self) -> Features:
        """Un-normalised (image, text) embeddings."""
        return self.image_features, self.text_features


def encode_pairs(
    model: CADA,
    config: ConfigDict,
    params: Any,
    images: Float32[AnyArray, "B H W 3"],
    token_ids: Int[AnyArray, "B T"],
    keys: StepKeys,
) -> Encoded:
    """Encodes normalised images float32 [B,H,W,3] and captions int32 [B,T]."""

    def encode(method, inputs, key):
        rngs = dropout_rngs(config, key)
        return apply(model, params, method, inputs, deterministic=rngs is None, rngs=rngs)

    image_tokens = encode("encode_image", images, keys.image)
    image_features = apply(model, params, "project_image", image_tokens)
    embedding_alone = config.loss.alignment == "off"
    if embedding_alone and model.splits_layers() and dropout_rngs(config, keys.text) is None:
        return Encoded(image_tokens, image_features, apply(model, params, "embed_text", token_ids))
    text_tokens = encode("encode_text", token_ids, keys.text)
    return Encoded(
        image_tokens,
        image_features,
        apply(model, params, "project_text", text_tokens),
        None if embedding_alone else text_tokens,
    )


def batch_terms(
    config: ConfigDict, features: Features, batch: dict
) -> dict[str, Float32[Array, ""]]:
    """The terms that compare all rows with all others.

    Args:
      config: full config.
      features: un-normalised (image, text) embeddings, float32 [B,E] each.
      batch: train batch of B pairs.
    """
    return {"global": _global_loss(config.loss, features, batch["pid"])}


def _global_loss(c: ConfigDict, features: Features, pids: Int[AnyArray, "B"]):
    """The global loss that `config.loss` names, float32 scalar."""
    if c["global"] == "tal":  # a word of Python's own: no attribute
        return tal(*features, pids, c.tal_margin, c.tal_temperature)
    return losses.ndf(*features, pids, c.scale)


class RowInputs(NamedTuple):
    """What `row_terms` reads, by rows of the batch; None where a loss is switched off.

    Attributes:
      image_tokens: float [B,S,Dv].
      negative_tokens: float [B,S,Dv], another person's image for each text. None where
        `image_index` says which of the batch it is.
      image_index: int32 [3B], see `association.indices_to_match`; None with `negative_tokens`.
      texts: of 3B, see `association.pairs_to_match`.
      token_ids: int32 [B,T].
      masked: bool [B,T].
      text_tokens: float [B,T,D], see `Encoded`.
    """

    image_tokens: Float[Array, "B S Dv"]
    negative_tokens: Float[Array, "B S Dv"] | None = None
    image_index: Int32[Array, "3*B"] | None = None
    texts: association.Texts | None = None
    token_ids: Int[Array, "B T"] | None = None
    masked: Bool[Array, "B T"] | None = None
    text_tokens: Float[Array, "B T D"] | None = None


def row_inputs(
    config: ConfigDict,
    batch: dict,
    encoded: Encoded,
    keys: StepKeys,
    gather: bool,
) -> RowInputs:
    """Chooses negatives and masks for the whole batch.

    Args:
      config: full config.
      batch: train batch of B pairs.
      encoded: all of it.
      keys: of this step.
      gather: brings the negative images' tokens to the rows that want them. On several devices they
        are sent once for all layers; the keys and values that every layer makes of them would weigh
        24 times that.
        Otherwise they are found by index, so that keys and values are made once for each image.
    """
    inputs = RowInputs(encoded.image_tokens, text_tokens=encoded.text_tokens)
    if config.loss.atp_weight:
        chosen_from = encoded.features, batch["pid"]
        negatives = association.choose_negatives(config, *chosen_from, keys.negative)
        phrases = batch["phrase_ids"] if config.atp.groups == "phrases" else None
        texts = association.pairs_to_match(batch["token_ids"], negatives, phrases)
        inputs = inputs._replace(texts=texts)
        if gather:
            chosen = gather_rows(encoded.image_tokens, negatives.image_for_text)
            inputs = inputs._replace(negative_tokens=chosen)
        else:
            images, of_text = association.indices_to_match(negatives)
            inputs = inputs._replace(image_index=images, texts=texts._replace(text_index=of_text))
    if config.loss.ara_weight:
        inputs = inputs._replace(masked=attributes.mask_of(config, batch, keys.mask))
    if inputs.masked is not None or inputs.text_tokens is not None:
        inputs = inputs._replace(token_ids=batch["token_ids"])
    return inputs


def row_terms(
    model: CADA, config: ConfigDict, params: Any, inputs: RowInputs, keys: StepKeys
) -> dict[str, Float32[Array, ""]]:
    """The terms that are means over rows, and what is reported with them: float32 scalars.

    A term over rows that is added here needs an entry in `WEIGHTS`, and its denominator in
    `row_denominators`.
    """
    terms = {}
    if inputs.texts is not None:
        images = inputs.image_tokens, inputs.image_index
        if inputs.negative_tokens is not None:
            images = association.images_to_match(inputs.image_tokens, inputs.negative_tokens)
        rngs = dropout_rngs(config, keys.decode)
        terms |= association.match_terms(model, params, inputs.texts, *images, rngs)
    if inputs.masked is not None and inputs.token_ids is not None:
        rngs = dropout_rngs(config, keys.predict)
        given = inputs.token_ids, inputs.masked, inputs.image_tokens
        terms |= attributes.attribute_terms(model, params, *given, rngs)
    if inputs.text_tokens is not None and inputs.token_ids is not None:
        given = inputs.token_ids, inputs.text_tokens, inputs.image_tokens
        terms |= alignment.alignment_terms(model, config, params, *given)
    return terms


def row_denominators(
    model: CADA, config: ConfigDict, params: Any, inputs: RowInputs
) -> dict[str, Float32[Array, ""]]:
    """What each of `row_terms` is divided by: float32 scalars that no parameter changes.

    The mean of a term over the whole batch is the mean over its parts, weighed by these.
    """
    counts = {}
    if inputs.texts is not None:
        counts |= association.match_denominators(model, params, inputs.texts)
        counts["match_accuracy"] = counts["match"]
    if inputs.masked is not None:
        counts["ara"] = jnp.sum(inputs.masked).astype(jnp.float32)
        counts["ara_accuracy"] = counts["ara"]
        counts["masked_tokens"] = jnp.float32(len(inputs.masked))
    if config.loss.alignment != "off" and inputs.token_ids is not None:
        counts["alignment"] = alignment.alignment_denominator(model, inputs.token_ids)
    return counts


def loss_terms(
    model: CADA, config: ConfigDict, params: Any, batch: dict, key: PRNGKeyArray
) -> tuple[Float32[Array, ""], dict[str, Float32[Array, ""]]]:
    """All losses of one batch of already normalised images.

    The mesh of JAX's context changes where things are, not what they are.

    Args:
      model: the CADA module.
      config: full config.
      params: its parameters.
      batch: train batch whose image is float32 [B,H,W,3], normalised.
      key: PRNG key of this step.

    Returns:
      (total, terms): the weighted sum, and a dict of float32 scalars.
    """
    keys = split_key(key)
    encoded = encode_pairs(model, config, params, batch["image"], batch["token_ids"], keys)
    encoded = encoded._replace(image_tokens=constrain_rows(encoded.image_tokens))
    terms = batch_terms(config, encoded.features, batch)
    inputs = row_inputs(config, batch, encoded, keys, gather=is_sharded())
    terms |= row_terms(model, config, params, inputs, keys)
    total = weighted_sum(config, terms)
    return total, terms | {"total": total}
