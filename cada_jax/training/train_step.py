"""One training step: augment, encode, associate, mask, predict, three losses, update.

Everything random is a function of (seed, step): the step's key is the run's key with the
step folded in, so that a resumed run draws what the uninterrupted one would have drawn.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cada_jax.common.pytrees import abstract_arrays
from cada_jax.distributed.mesh import traced_on
from cada_jax.distributed.partitioning import (
    data_sharding,
    optimizer_shardings,
    param_shardings,
    replicated,
)
from cada_jax.models.cada import init_params
from cada_jax.models.ops.plain import FEW_LAYERS
from cada_jax.models.preprocess import augment
from cada_jax.objective.objective import loss_terms
from cada_jax.objective.short_captions import shorten_captions
from cada_jax.training.setup import TrainSetup


@flax.struct.dataclass
class TrainState:
    """All that a run carries from step to step."""

    step: jax.Array  # int32 scalar, updates done
    params: Any  # nested dict of arrays
    opt_state: optax.OptState


def _new_state(setup: TrainSetup, key: jax.Array) -> TrainState:
    params = init_params(setup.network.model, setup.config, key)
    return TrainState(jnp.zeros((), jnp.int32), params, setup.tx.init(params))


def state_shardings(mesh: Mesh, state: TrainState) -> Any:
    """Where a state's arrays lie, a tree like it: parameters by network, the rest by optimizer."""
    places: dict[str, Any] = {
        "step": replicated(mesh),
        "params": param_shardings(mesh, state.params),
        "opt_state": optimizer_shardings(mesh, state.opt_state),
    }
    return TrainState(**places)


def init_state(setup: TrainSetup) -> TrainState:
    """Random parameters by `config.seed`, made on the devices that will hold them."""
    # A key of its own for the parameters: the steps fold their number into the run's key.
    key = jax.random.fold_in(jax.random.key(setup.config.seed), 2**31)
    init = functools.partial(_new_state, setup)
    shardings = state_shardings(setup.network.mesh, jax.eval_shape(init, key))
    return jax.jit(init, out_shardings=shardings)(key)


def abstract_state(
    setup: TrainSetup, init: Callable[[TrainSetup], TrainState] = init_state
) -> TrainState:
    """The shapes of a run's state, as `init` makes it, with the shardings it has on the mesh."""
    shapes = jax.eval_shape(lambda: init(setup))
    return abstract_arrays(shapes, state_shardings(setup.network.mesh, shapes))


def compiler_options(mesh: Mesh, layers: int) -> dict[str, str]:
    """What the step asks of the compiler of a mesh's devices, for a text side of so many layers.

    On a TPU, that the gradient's products are computed whole and their sums sent afterwards. The
    compiler otherwise cuts each into pieces, one for each device, and sends a piece while it
    computes the next: by its own estimate that took a seventh of a step more.

    On a GPU, that products of equal weights are not merged. The text encoder and the decoder share
    theirs, and merging copied their rows together: 2 % of a step by the compiler's estimate.

    On the CPU, that operations are ordered for the memory that their results hold. The order XLA
    chooses there by itself is for running some of them at the same time, which products that
    take all cores gain nothing from: a full-size step took a third more temporary memory and no
    less time. With few layers, which are straight code, it saves nothing: the demo's step takes
    404 MiB in XLA's own order, and 407 and an eighth more time in that for memory.
    """
    platform = mesh.devices.flat[0].platform
    if platform == "tpu":
        return {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}
    if platform in ("gpu", "cuda"):
        return {"xla_gpu_dot_merger_threshold_mb": "0"}
    if platform != "cpu" or layers <= FEW_LAYERS:
        return {}
    return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def make_train_step(
    setup: TrainSetup,
) -> Callable[[TrainState, dict, jax.Array], tuple[TrainState, dict]]:
    """Compiles the step for the setup's mesh.

    Returns:
      (state, batch, key) -> (state, metrics). The state given is donated: use the one
      returned. batch: global arrays by `batch.to_global`. key: the run's key, the same
      at every step. metrics: float32 scalars.
    """
    config, model, mesh = setup.config, setup.network.model, setup.network.mesh
    tokens = config.model.tokens

    def step(state, batch, key):
        key_augment, key_losses = jax.random.split(jax.random.fold_in(key, state.step))
        images = augment(batch["image"], key_augment, config.augment)
        # A number that no split of the key has: images are drawn as where captions stay whole.
        key_captions = jax.random.fold_in(key_augment, 2**31)
        rate = config.augment.shorten
        batch = shorten_captions(batch, key_captions, rate, tokens.sep, tokens.pad)
        batch = batch | {"image": images}
        loss = jax.value_and_grad(loss_terms, argnums=2, has_aux=True)
        with traced_on(mesh):
            (_, metrics), grads = loss(model, config, state.params, batch, key_losses)
        # Each device updates its share of the parameters, of which alone it holds the moments.
        grads = jax.lax.with_sharding_constraint(grads, optimizer_shardings(mesh, grads))
        updates, opt_state = setup.tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics["grad_norm"] = optax.tree.norm(grads)
        return TrainState(state.step + 1, params, opt_state), metrics

    states = jax.tree.map(lambda x: x.sharding, abstract_state(setup))
    rows, whole = data_sharding(mesh), replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(states, rows, whole),
        out_shardings=(states, whole),
        donate_argnums=0,
        compiler_options=compiler_options(mesh, config.model.text.depth),
    )
