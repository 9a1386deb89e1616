"""One training step: augment, encode, associate, mask, predict, three losses, update.

Everything random is a function of (seed, step): the step's key is the run's key with the
step folded in, so that a resumed run draws what the uninterrupted one would have drawn.
"""

import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cada_jax import losses, sharding
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


def association_losses(model, params, config, batch, image_tokens, features, key, rngs):
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

    Returns:
      dict of float32 scalars: match, group, match_accuracy.
    """
    negatives = losses.choose_negatives(
        *features, batch["pid"], config.atp.negatives, config.atp.temperature, key
    )
    token_ids = batch["token_ids"]
    rows = jnp.arange(token_ids.shape[0], dtype=jnp.int32)
    token_ids = jnp.concatenate([token_ids, token_ids, token_ids[negatives.text_for_image]])
    image_index = jnp.concatenate([rows, negatives.image_for_text, rows])
    is_match = jnp.concatenate([jnp.ones_like(rows), jnp.zeros_like(rows), jnp.zeros_like(rows)])
    weight = jnp.concatenate([jnp.ones_like(negatives.weight), negatives.weight, negatives.weight])
    variables = {"params": params}
    decoded = model.apply(
        variables,
        token_ids,
        image_tokens,
        image_index,
        deterministic=rngs is None,
        rngs=rngs,
        method="decode",
    )
    logits = model.apply(variables, decoded, method="match")
    group_logits, group_weight = model.apply(variables, decoded, token_ids, method="match_groups")
    correct = (jnp.argmax(logits, axis=-1) == is_match).astype(jnp.float32)
    return {
        "match": losses.match_loss(logits, is_match, weight),
        "group": losses.match_loss(group_logits, is_match[:, None], group_weight * weight[:, None]),
        "match_accuracy": losses.weighted_mean(correct, weight),
    }


def attribute_losses(model, params, config, batch, image_tokens, key, rngs):
    """ARA: masks attribute phrases and predicts them from the image.

    Returns:
      dict of float32 scalars: ara, ara_accuracy, masked_tokens (per caption).
    """
    token_ids = batch["token_ids"]
    masked = draw_mask(
        key,
        config.ara.masking,
        batch["phrase_ids"],
        batch["attribute_mask"],
        config.ara.phrase_rate,
        config.ara.token_rate,
    )
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


def loss_terms(model: CADA, config: ConfigDict, params: dict, batch: dict, key: jax.Array):
    """All losses of one batch of already normalised images.

    Args:
      model: the CADA module.
      config: full config.
      params: its parameters.
      batch: train batch whose image is float32 [B,H,W,3], normalised.
      key: PRNG key of this step.

    Returns:
      (total, terms): the weighted sum, and a dict of float32 scalars.
    """
    key_image, key_text, key_negative, key_decode, key_mask, key_predict = jax.random.split(key, 6)
    random = config.model.text.dropout > 0 or config.model.image.drop_path > 0

    def encode(key, method, inputs):
        rngs = {"dropout": key} if random else None
        return model.apply(
            {"params": params}, inputs, deterministic=not random, rngs=rngs, method=method
        )

    image_tokens = encode(key_image, "encode_image", batch["image"])
    text_tokens = encode(key_text, "encode_text", batch["token_ids"])
    features = (
        model.apply({"params": params}, image_tokens, method="project_image"),
        model.apply({"params": params}, text_tokens, method="project_text"),
    )
    weights = config.loss
    terms = {"global": losses.ndf(*features, batch["pid"], weights.scale)}
    total = weights.global_weight * terms["global"]
    if weights.atp_weight:
        rngs = {"dropout": key_decode} if random else None
        terms |= association_losses(
            model, params, config, batch, image_tokens, features, key_negative, rngs
        )
        total += weights.atp_weight * (terms["match"] + terms["group"])
    if weights.ara_weight:
        rngs = {"dropout": key_predict} if random else None
        terms |= attribute_losses(model, params, config, batch, image_tokens, key_mask, rngs)
        total += weights.ara_weight * terms["ara"]
    return total, terms | {"total": total}


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

        def loss(params):
            return loss_terms(model, config, params, batch, key_losses)

        (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
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
