"""Learning-rate schedule and AdamW."""

import math

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from cada_jax.config import check_fields


def total_steps(config: ConfigDict, steps_per_epoch: int) -> int:
    """How many updates a run will have done at its end."""
    return config.train.max_steps or config.train.epochs * steps_per_epoch


def make_schedule(config: ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate as a function of the step.

    "epoch" follows the released code: a cosine of the epoch, constant within it, over
    `config.train.epochs`. "step" is the same cosine of the step. A linear warm-up of
    `warmup_steps` multiplies either.

    Args:
      config: full config; reads `optimizer` and `train.epochs`, `train.max_steps`.
      steps_per_epoch: > 0.

    Returns:
      step (int) -> learning rate (float32 scalar).

    Raises:
      UsageError: unknown schedule.
      ValueError: an epoch without a single step.
    """
    c = config.optimizer
    check_fields(config, "optimizer.schedule")
    if steps_per_epoch < 1:
        raise ValueError(
            f"an epoch has {steps_per_epoch} steps: the training split holds fewer pairs than "
            f"config.train.batch_size = {config.train.batch_size}"
        )
    total = total_steps(config, steps_per_epoch)

    def schedule(step):
        if c.schedule == "epoch":
            progress = (step // steps_per_epoch) / config.train.epochs
        else:
            progress = step / total
        cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(progress, 1.0)))
        rate = (c.learning_rate - c.min_learning_rate) * cosine + c.min_learning_rate
        if c.warmup_steps:
            rate = rate * jnp.minimum(1.0, (step + 1) / c.warmup_steps)
        return rate

    return schedule


def decay_mask(params: dict) -> dict:
    """True for the parameters that "matrices" decays: kernels and embeddings."""

    def is_matrix(path, _):
        return path[-1].key in ("kernel", "embedding")

    return jax.tree_util.tree_map_with_path(is_matrix, params)


def scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """`optax.scale_by_adam`, with the same state, whose bias correction keeps its digits.

    In float32, 1 - 0.999 ** t has the rounding of a number near 1: 1.3e-5 of it at the first steps.
    Adam (Kingma and Ba, 2015), algorithm 1.
    """
    adam = optax.scale_by_adam(b1, b2, eps)

    def correction(decay, count):
        return -jnp.expm1(count.astype(jnp.float32) * (math.log(decay) if decay else -math.inf))

    def update(updates, state, params=None):
        _, state = adam.update(updates, state, params)
        assert isinstance(state, optax.ScaleByAdamState)
        first, second = (correction(decay, state.count) for decay in (b1, b2))
        scaled = jax.tree.map(
            lambda mu, nu: mu / first / (jnp.sqrt(nu / second) + eps), state.mu, state.nu
        )
        return scaled, state

    return optax.GradientTransformation(adam.init, update)


def make_optimizer(config: ConfigDict, steps_per_epoch: int) -> optax.GradientTransformation:
    """AdamW as `config.optimizer` describes it; decay is decoupled and scaled by the rate.

    Raises:
      UsageError: unknown `optimizer.decay` or `optimizer.schedule`.
      ValueError: an epoch without a single step.
    """
    c = config.optimizer
    check_fields(config, "optimizer.decay")
    clip = [optax.clip_by_global_norm(c.clip_norm)] if c.clip_norm else []
    return optax.chain(
        *clip,
        scale_by_adam(c.b1, c.b2, c.eps),
        optax.add_decayed_weights(
            c.weight_decay, mask=decay_mask if c.decay == "matrices" else None
        ),
        optax.scale_by_learning_rate(make_schedule(config, steps_per_epoch)),
    )
