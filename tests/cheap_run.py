"""Whole runs that take a second: noise in place of prepared data, a step that compiles at once.

Everything else of a run is real: batches, checkpoints, signals.
"""

import os
import pathlib
import types

import jax

from cada_jax.data import registry, split
from cada_jax.evaluation import evaluate
from cada_jax.training import run as run_lib
from cada_jax.training import train_step
from tests.conftest import tiny_config_of_runs
from tests.training.test_run import cheap_train_step, make_split

PERSONS = {"train": 6, "val": 3, "test": 4}
EPOCHS, STEPS = 8, 24


def use_noise(config, folder: pathlib.Path) -> None:
    """Splits in memory in place of prepared ones."""
    words = ["[PAD]", *(f"word{i}" for i in range(1, 198)), "[DEC]", "[ENC]"]
    words[100:104] = "[UNK]", "[CLS]", "[SEP]", "[MASK]"
    vocab = folder / f"words{os.getpid()}.txt"
    vocab.write_text("\n".join(words) + "\n")
    splits = {name: make_split(name, n, config, vocab) for name, n in PERSONS.items()}
    split.load_split = lambda _, name: splits[name]
    builder = types.SimpleNamespace(info=types.SimpleNamespace(splits=splits))
    registry.prepared_builder = lambda _: builder


def make_it_cheap() -> None:
    """A step that compiles at once and needs every device, and no evaluation."""
    train_step.make_train_step = cheap_train_step

    def scored(model, params, *_, **__):
        # Falls while the parameters grow, so that the best ones are not the last.
        figures = {"R1": -float(jax.numpy.sum(params["vision_proj"]["bias"]))}
        return {"global": figures, "reranked": figures}

    evaluate.evaluate = scored


def small_state(model, tx, config, mesh):
    """A few arrays and their moments: those of a whole model take a second to save."""
    del model, mesh
    kernel = jax.random.normal(jax.random.key(config.seed), (16, 16))
    params = {"vision_proj": {"kernel": kernel, "bias": jax.numpy.zeros((16,))}}
    return train_step.TrainState(jax.numpy.zeros((), jax.numpy.int32), params, tx.init(params))


def run(workdir: str, checkpoint_every: int = 1) -> None:
    """STEPS cheap steps in `workdir`, scored in the middle and at the end; for its own process."""
    config = tiny_config_of_runs()
    with config.unlocked():
        config.train.epochs = EPOCHS
        config.train.eval_every = EPOCHS // 2
        config.train.checkpoint_every = checkpoint_every
        config.train.keep_checkpoints = 2
    use_noise(config, pathlib.Path(workdir).parent)
    make_it_cheap()
    train_step.init_state = small_state
    run_lib.train(config, workdir)
