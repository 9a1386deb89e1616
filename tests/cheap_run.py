"""Whole runs that take a second: noise in place of prepared data, a step that compiles at once.

Everything else of a run is real: batches, checkpoints, signals.
"""

import pathlib

import jax

from cada_jax.distributed.partitioning import param_shardings
from cada_jax.evaluation.evaluate import Evaluation
from cada_jax.training import run as run_lib
from cada_jax.training import train_step
from tests.conftest import tiny_config_of_runs
from tests.noise import NoiseData

EPOCHS, STEPS = 8, 24


def cheap_step(setup):
    """A step that compiles at once, and still depends on the batch, the seed and the step."""

    @jax.jit
    def step(state, batch, key):
        noise = jax.random.normal(jax.random.fold_in(key, state.step))
        seen = jax.numpy.mean(batch["image"]) + jax.numpy.mean(batch["token_ids"])
        params = jax.tree.map(lambda x: x + 1e-3 * (noise + seen), state.params)
        metrics = {"total": seen, "global": noise, "grad_norm": jax.numpy.ones(())}
        return state.replace(step=state.step + 1, params=params), metrics

    return step


def small_state(setup):
    """A few arrays and their moments, on the mesh: those of a whole model take a second to save."""

    def make():
        kernel = jax.random.normal(jax.random.key(setup.config.seed), (16, 16))
        params = {"vision_proj": {"kernel": kernel, "bias": jax.numpy.zeros((16,))}}
        zero = jax.numpy.zeros((), jax.numpy.int32)
        return train_step.TrainState(zero, params, setup.tx.init(params))

    shardings = param_shardings(setup.network.mesh, jax.eval_shape(make))
    return jax.jit(make, out_shardings=shardings)()


def cheap_score(network, split, **_):
    """Falls while the parameters grow, so that the best ones are not the last."""
    figures = {"R1": -float(jax.numpy.sum(network.params["vision_proj"]["bias"]))}
    return scripted(split, figures)


def scripted(split, figures: dict, **more) -> Evaluation:
    """An evaluation with the figures given and no ranking."""
    return Evaluation({"split": split.name, "global": figures, "reranked": figures, **more})


CHEAP = dict(make_step=cheap_step, init_state=small_state, score=cheap_score)


def run(workdir: str, checkpoint_every: int = 1) -> None:
    """STEPS cheap steps in `workdir`, scored in the middle and at the end; for its own process."""
    config = tiny_config_of_runs()
    with config.unlocked():
        config.train.epochs = EPOCHS
        config.train.eval_every = EPOCHS // 2
        config.train.checkpoint_every = checkpoint_every
        config.train.keep_checkpoints = 2
    data = NoiseData(config, pathlib.Path(workdir).parent)
    run_lib.train(config, workdir, data=data, **CHEAP)
