"""Gradients: how much each loss has to say about each part of the network.

A loss whose gradient at the image encoder is a hundredth of the others' does not teach it, whatever
it learns itself.
"""

import functools
import itertools
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict, FrozenConfigDict

from cada_jax.data.batches import train_batches
from cada_jax.models.preprocess import augment
from cada_jax.objective.objective import ROW_LOSSES, loss_terms
from tools.probing.subject import SEED, Subject

WEIGHTS = ("global_weight", *(loss.weight for loss in ROW_LOSSES))
BATCHES = 8
CELLS = 2**28  # numbers that a gradient's largest arrays may have together: 1 GiB in float32


def only(config: ConfigDict, weight: str) -> ConfigDict:
    """The config with one of `WEIGHTS` left, so that no other loss is computed."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for other in WEIGHTS:
            if other != weight and other != "alignment_weight":
                config.loss[other] = 0.0
        if weight != "alignment_weight":
            config.loss.alignment = "off"
    return config


def losses_of(config: ConfigDict) -> list[str]:
    """Those of `WEIGHTS` that a config trains with, in their order."""
    off = set() if config.loss.alignment != "off" else {"alignment_weight"}
    return [name for name in WEIGHTS if name not in off and config.loss[name]]


@functools.partial(jax.jit, static_argnames=("model", "config"))
def _norms(model, config, params, batch, key):
    """Part of the network -> norm of the gradient there."""
    key_augment, key_losses = jax.random.split(key)
    batch = batch | {"image": augment(batch["image"], key_augment, config.augment)}

    def total(params):
        return loss_terms(model, config, params, batch, key_losses)[0]

    return {part: optax.tree.norm(tree) for part, tree in jax.grad(total)(params).items()}


def batch_size(config: ConfigDict) -> int:
    """Pairs that a gradient is computed of: a batch of training, fewer where the network is large.

    A full-size batch does not fit a laptop. Every pair is decoded beside two negatives.
    """
    text, image = config.model.text, config.model.image
    patches = (image.size[0] // image.patch[0]) * (image.size[1] // image.patch[1]) + 1
    widest = max(patches * text.heads, text.mlp_dim)
    of_pair = 3 * text.depth * config.data.max_length * widest
    return min(config.train.batch_size, max(2, CELLS // of_pair))


def measure_gradients(subject: Subject) -> dict[str, Any] | None:
    """Norms of the weighted losses' gradients, means over `BATCHES` batches as in training.

    Weights, negatives, masks and augmentation are those of the model's config.

    Returns:
      batch, batches; norms: part of the network (a first level of the parameters) -> field of
      `config.loss` ("global_weight", "atp_weight", ...) -> norm. None where the split has less
      than a batch.
    """
    network = subject.retriever
    config = network.config.copy_and_resolve_references()
    with config.unlocked():
        config.train.batch_size = batch_size(config)
    if subject.split.num_captions < config.train.batch_size:
        return None
    batches = list(itertools.islice(train_batches(subject.split, config, 0), BATCHES))
    keys = functools.partial(jax.random.fold_in, jax.random.key(SEED))
    norms: dict[str, dict[str, float]] = {part: {} for part in network.params}
    for name in losses_of(config):
        asked = FrozenConfigDict(only(config, name))
        drawn = [
            _norms(network.model, asked, network.params, batch, keys(number))
            for number, batch in enumerate(batches)
        ]
        for part in norms:
            norms[part][name] = float(np.mean([one[part] for one in drawn]))
    return {"batch": config.train.batch_size, "batches": len(batches), "norms": norms}
