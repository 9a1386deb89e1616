"""Learning-rate schedule and AdamW."""

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


def make_optimizer(config: ConfigDict, steps_per_epoch: int) -> optax.GradientTransformation:
    """AdamW as `config.optimizer` describes it; decay is decoupled and scaled by the rate.

    Raises:
      UsageError: unknown `optimizer.decay` or `optimizer.schedule`.
      ValueError: an epoch without a single step.
    """
    c = config.optimizer
    check_fields(config, "optimizer.decay")
    adamw = optax.adamw(
        make_schedule(config, steps_per_epoch),
        b1=c.b1,
        b2=c.b2,
        eps=c.eps,
        weight_decay=c.weight_decay,
        mask=decay_mask if c.decay == "matrices" else None,
    )
    if c.clip_norm:
        return optax.chain(optax.clip_by_global_norm(c.clip_norm), adamw)
    return adamw
