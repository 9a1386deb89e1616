"""One training step: augment, encode, associate, mask, predict, three losses, update.

Everything random is a function of (seed, step): the step's key is the run's key with the
step folded in, so that a resumed run draws what the uninterrupted one would have drawn.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cada_jax import accumulate, losses, sharding
from cada_jax.augment import augment
from cada_jax.masking import draw_mask
from cada_jax.models.cada import CADA, init_params


@flax.struct.dataclass
class TrainState:
    """All that a run carries from step to step."""

    step: jax.Array  # int32 scalar, updates done
    params: dict
    opt_state: optax.OptState


def state_shardings(mesh: Mesh, shapes: TrainState) -> TrainState:
    """Shardings of a TrainState given as arrays or shapes."""
    return sharding.param_shardings(mesh, shapes)


def _new_state(model, tx, config, key) -> TrainState:
    params = init_params(model, config, key)
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))


def init_state(
    model: CADA, tx: optax.GradientTransformation, config: ConfigDict, mesh: Mesh
) -> TrainState:
    """Random parameters by `config.seed`, made on the devices that will hold them."""
    init = functools.partial(_new_state, model, tx, config)
    # A key of its own for the parameters: the steps fold their number into the run's key.
    key = jax.random.fold_in(jax.random.key(config.seed), 2**31)
    shapes = jax.eval_shape(init, key)
    return jax.jit(init, out_shardings=state_shardings(mesh, shapes))(key)


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
    negatives = losses.choose_negatives(
        *features, batch["pid"], config.atp.negatives, config.atp.temperature, key
    )
    token_ids, weights = pairs_to_match(batch["token_ids"], negatives)
    if sharding.spread(mesh):
        chosen = sharding.gather_rows(image_tokens, negatives.image_for_text, mesh)
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


def _rngs(config: ConfigDict, key: jax.Array) -> dict | None:
    """The dropout key in a dict; None for a network that draws nothing."""
    random = config.model.text.dropout > 0 or config.model.image.drop_path > 0
    return {"dropout": key} if random else None


def encode_pairs(model, config, params, images, token_ids, keys: Keys):
    """Image tokens [B,S,Dv], and un-normalised image and text embeddings float32 [B,E]."""

    def apply(method, inputs, key):
        rngs = _rngs(config, key)
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
    keys = Keys(*jax.random.split(key, len(Keys._fields)))
    image_tokens, *features = encode_pairs(
        model, config, params, batch["image"], batch["token_ids"], keys
    )
    image_tokens = sharding.constrain_rows(image_tokens, mesh)
    weights = config.loss
    terms = {"global": losses.ndf(*features, batch["pid"], weights.scale)}
    total = weights.global_weight * terms["global"]
    if weights.atp_weight:
        rngs = _rngs(config, keys.decode)
        terms |= association_losses(
            model, params, config, batch, image_tokens, features, keys.negative, rngs, mesh
        )
        total += weights.atp_weight * (terms["match"] + terms["group"])
    if weights.ara_weight:
        rngs, masked = _rngs(config, keys.predict), mask_of(config, batch, keys.mask)
        terms |= attribute_losses(
            model, params, config, batch["token_ids"], masked, image_tokens, rngs
        )
        total += weights.ara_weight * terms["ara"]
    return total, terms | {"total": total}


def accumulated_gradient(
    model: CADA,
    config: ConfigDict,
    params: dict,
    batch: dict,
    key: jax.Array,
    mesh: Mesh | None = None,
):
    """`loss_terms` and its gradient with `config.train.accumulation` chunks, one after the other.

    The same losses, negatives, masks and dropout of the whole batch, whatever the number of chunks.
    The arguments are those of `loss_terms`. Returns ((total, terms), gradient).
    """
    keys = Keys(*jax.random.split(key, len(Keys._fields)))
    chunks, weights = config.train.accumulation, config.loss
    split = functools.partial(sharding.split_rows, chunks=chunks, mesh=mesh)
    merge = functools.partial(sharding.merge_rows, mesh=mesh)
    token_ids = batch["token_ids"]

    def encode(params, chunk):
        number, images, token_ids = chunk
        with accumulate.draws_of_chunk(number, chunks, mesh):
            return encode_pairs(model, config, params, images, token_ids, keys)

    def whole(encoded):
        image_tokens, *features = (merge(x) for x in encoded)
        loss = losses.ndf(*features, batch["pid"], weights.scale)
        routed, fixed = {"own": split(image_tokens)}, {"number": jnp.arange(chunks)}
        if weights.atp_weight:
            c = config.atp
            negatives = losses.choose_negatives(
                *features, batch["pid"], c.negatives, c.temperature, keys.negative
            )
            chosen = sharding.gather_rows(image_tokens, negatives.image_for_text, mesh)
            routed["negative"] = split(chosen)
            texts, weight = pairs_to_match(token_ids, negatives)
            fixed |= _shares_of_match(model, params, texts, weight, split)
        if weights.ara_weight:
            masked = mask_of(config, batch, keys.mask)
            count = jnp.maximum(jnp.sum(masked), 1)
            fixed |= {"token_ids": split(token_ids), "masked": split(masked)}
            fixed["of_masked"] = jnp.sum(fixed["masked"], axis=(1, 2)) / count
        return (weights.global_weight * loss, routed), (fixed, {"global": loss})

    def part(params, routed, fixed):
        loss, terms = jnp.zeros(()), {}
        with accumulate.draws_of_chunk(fixed["number"], chunks, mesh):
            if weights.atp_weight:
                images = images_to_match(routed["own"], routed["negative"])
                rngs = _rngs(config, keys.decode)
                terms |= match_terms(model, params, fixed["texts"], fixed["weight"], *images, rngs)
                for name in ("match", "group", "match_accuracy"):
                    terms[name] *= fixed["of_groups" if name == "group" else "of_pairs"]
                loss += weights.atp_weight * (terms["match"] + terms["group"])
            if weights.ara_weight:
                given, rngs = (fixed["token_ids"], fixed["masked"]), _rngs(config, keys.predict)
                terms |= attribute_losses(model, params, config, *given, routed["own"], rngs)
                for name in ("ara", "ara_accuracy", "masked_tokens"):
                    terms[name] *= 1 / chunks if name == "masked_tokens" else fixed["of_masked"]
                loss += weights.ara_weight * terms["ara"]
        return loss, terms

    data = (jnp.arange(chunks), split(batch["image"]), split(token_ids))
    (total, terms), gradient = accumulate.value_and_grad(encode, whole, part, params, data)
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


def loss_and_gradient(model, config, params, batch, key, mesh=None):
    """((total, terms), gradient) of `loss_terms`; arguments as there."""
    if config.train.accumulation > 1:
        return accumulated_gradient(model, config, params, batch, key, mesh)

    def loss(params):
        return loss_terms(model, config, params, batch, key, mesh)

    return jax.value_and_grad(loss, has_aux=True)(params)


def make_train_step(
    model: CADA, tx: optax.GradientTransformation, config: ConfigDict, mesh: Mesh
) -> Callable[[TrainState, dict, jax.Array], tuple[TrainState, dict]]:
    """Compiles the step for a mesh.

    Returns:
      (state, batch, key) -> (state, metrics). The state given is donated: use the one
      returned. batch: global arrays by `sharding.to_global`. key: the run's key, the same
      at every step. metrics: float32 scalars.
    """

    def step(state, batch, key):
        key_augment, key_losses = jax.random.split(jax.random.fold_in(key, state.step))
        images = augment(batch["image"], key_augment, config.augment)
        batch = batch | {"image": images}

        (_, metrics), grads = loss_and_gradient(
            model, config, state.params, batch, key_losses, mesh
        )
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics["grad_norm"] = optax.tree.norm(grads)
        return TrainState(state.step + 1, params, opt_state), metrics

    init = functools.partial(_new_state, model, tx, config)
    shapes = jax.eval_shape(init, jax.random.key(0))
    states = state_shardings(mesh, shapes)
    rows, whole = sharding.data_sharding(mesh), sharding.replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(states, rows, whole),
        out_shardings=(states, whole),
        donate_argnums=0,
    )
