"""A run from its configuration to its results."""

import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from clu import metric_writers, parameter_overview
from ml_collections import ConfigDict

from cada_jax.checkpoints import workdir as workdir_lib
from cada_jax.checkpoints.model import DRAWINGS, PHOTOGRAPHS, save_model
from cada_jax.checkpoints.run import Checkpoints
from cada_jax.checkpoints.weights import load_initial
from cada_jax.common.compilation_cache import enable_compilation_cache
from cada_jax.common.console import Timers, say
from cada_jax.common.errors import UsageError
from cada_jax.config import validate
from cada_jax.data.batches import steps_per_epoch
from cada_jax.data.prepared_data import PREPARED, PreparedData
from cada_jax.data.split import Split
from cada_jax.distributed import processes
from cada_jax.distributed.mesh import process_batch_slice
from cada_jax.evaluation import baseline
from cada_jax.evaluation.evaluate import Evaluation, evaluate_split
from cada_jax.evaluation.run import SelectedParams, final_score, provenance_of
from cada_jax.evaluation.selection import BestOnTest
from cada_jax.text.vocabulary import check_model_tokens
from cada_jax.training import train_step
from cada_jax.training.loop import Trainer, flat_metrics
from cada_jax.training.setup import TrainSetup, make_setup

MOST_WITHOUT_RATE = 0.1  # of the steps


def train(
    config: ConfigDict,
    workdir: str | os.PathLike,
    *,
    data: PreparedData = PREPARED,
    make_step: Callable[[TrainSetup], Callable] = train_step.make_train_step,
    init_state: Callable[[TrainSetup], train_step.TrainState] = train_step.init_state,
    score: Callable[..., Evaluation] = evaluate_split,
    devices: list | None = None,
) -> dict:
    """Trains, or continues a run, then exports and scores its best parameters.

    Args:
      workdir: the run's folder, created if missing.
      devices: to use; all there are if None.

    Returns:
      What results.json holds.

    Raises:
      UsageError: the workdir, the data or the configuration is not usable.
      DivergedError, StoppedError: see `loop.Trainer.run`.
    """
    validate(config)
    processes.check_same_program(config)
    with workdir_lib.working_in(workdir, config) as root:
        processes.check_shared(root, workdir_lib.LOCK_FILE)
        return _train(config, root, data, make_step, init_state, score, devices)


def _train(
    config: ConfigDict,
    root: pathlib.Path,
    data: PreparedData,
    make_step: Callable[[TrainSetup], Callable],
    init_state: Callable[[TrainSetup], train_step.TrainState],
    score: Callable[..., Evaluation],
    devices: list | None,
) -> dict:
    timers = Timers()
    enable_compilation_cache()
    with timers("data"), processes.first_alone("data"):
        split = data.training(config)
        select, test = _selecting_splits(config, data)
        final = select if select and select.name == config.eval.split else None
        final = final or data.split(config, config.eval.split)
    _check_persons(split)
    check_model_tokens(config, split.vocab_path)
    setup = make_setup(config, steps_per_epoch(split, config), devices)
    writer = metric_writers.create_default_writer(root, just_logging=jax.process_index() > 0)
    try:
        kept = config.train.keep_checkpoints
        with Checkpoints(root, kept, provenance=_provenance(split)) as checkpoints:
            with timers("start"):
                state = _start_state(setup, checkpoints, split.vocab_path, init_state)
            _check_schedule(setup, int(state.step))
            _describe(state.params)
            workdir_lib.claim(root, config)
            start = _score_start(setup, state, final, root, timers, score, writer)
            selecting = _selecting_score(setup, root, select, test, score)
            trainer = Trainer(setup, root, checkpoints, writer, timers, selecting)
            share = process_batch_slice(setup.network.mesh)
            state = trainer.run(
                state, lambda start: data.batches(split, config, start, *share), make_step(setup)
            )
            selected = SelectedParams(
                setup.network.with_params(state.params), int(state.step), "last"
            )
            del state  # two thirds of it are the optimizer's
            if select and config.eval.select == "best":
                del selected  # the rest goes before the best parameters are read
                shapes = train_step.abstract_state(setup, init_state)
                selected = _best(setup, checkpoints, shapes.params, select.name)
        notes: dict[str, Any] = {"baseline": None}
        if isinstance(selecting, BestOnTest):
            notes["test_selected"] = selecting.best
        _export(root, selected, split.vocab_path)
        last = functools.partial(final_score, timers=timers, score=score, notes=notes, start=start)
        with workdir_lib.writing_results(root, wait=True):
            results = last(selected, final, root)
        assert selected.step is not None, "what was trained has a step"
        writer.write_scalars(selected.step, _named(final, results))
    finally:
        writer.close()
    say(timers.summary())
    return results


def _check_persons(split: Split) -> None:
    """Raises UsageError if nobody in a training split is a negative of anybody else."""
    if len(np.unique(split.image_pids)) < 2:
        raise UsageError(
            f"{split.dataset} {split.name} shows one person only (pid {split.image_pids[0]}), so "
            "no pair has a negative: expected two persons or more. Check the ids of the annotation "
            "file, and prepare the data again."
        )


def _check_schedule(setup: TrainSetup, start: int) -> None:
    """Raises UsageError if the rest of a run would train little, or nothing at all.

    Args:
      start: steps done.
    """
    c, total = setup.config.optimizer, setup.total_steps
    if c.warmup_steps > total:
        raise UsageError(
            f"config.optimizer.warmup_steps is {c.warmup_steps}; allowed: at most {total}, the "
            "steps of this run, or the rate never reaches config.optimizer.learning_rate."
        )
    if start < total:
        rates = np.asarray(setup.schedule(np.linspace(start, total - 1, 1000).astype(int)))
        if np.mean(rates == 0.0) > MOST_WITHOUT_RATE:
            raise UsageError(
                f"{np.mean(rates == 0.0):.0%} of the steps {start + 1} to {total} have a learning "
                f"rate of 0: the cosine of config.optimizer.schedule={c.schedule!r} ends before "
                "config.train.max_steps. Set config.train.epochs to what the run has, or "
                "config.optimizer.min_learning_rate above 0."
            )


def _provenance(split: Split) -> dict[str, str]:
    """What is stored with every checkpoint: a run is not continued on other data."""
    return {"training data": split.data_digest, **provenance_of(split.vocab_path)}


def _selecting_splits(config: ConfigDict, data: PreparedData) -> tuple[Split | None, Split | None]:
    """The split that chooses the best checkpoint, and test if that is tracked beside it.

    The first is None where the data set has no val.
    """
    name = config.eval.select_on
    if name == "val" and name not in data.split_names(config):
        say(f"{config.data.name} has no val split: the last step is scored, not the best.")
        return None, None
    tracked = config.eval.track_test and name != "test"
    return data.split(config, name), data.split(config, "test") if tracked else None


def _start_state(
    setup: TrainSetup,
    checkpoints: Checkpoints,
    vocab_path: pathlib.Path,
    init_state: Callable[[TrainSetup], train_step.TrainState],
) -> train_step.TrainState:
    """The newest checkpoint's state, else a first one, from `config.init_from` if that is set."""
    if checkpoints.latest_step is not None:
        say(f"Continuing after step {checkpoints.latest_step}.")
        return checkpoints.restore(train_step.abstract_state(setup, init_state))
    config = setup.config
    state = init_state(setup)
    if config.init_from:
        params, report = load_initial(config, state.params, vocab_path)
        say(f"Weights from {config.init_from}:\n{report}")
        state = dataclasses.replace(state, params=params)
    return state


def _score_start(
    setup: TrainSetup,
    state: train_step.TrainState,
    final: Split,
    root: pathlib.Path,
    timers: Timers,
    score: Callable[..., Evaluation],
    writer: metric_writers.MetricWriter,
) -> dict[str, Any] | None:
    """The score of what a new run starts from; of a continued run, the one it kept."""
    if int(state.step):
        return baseline.read_baseline(root, final)
    network = setup.network.with_params(state.params)
    start = baseline.score_baseline(network, final, root, timers=timers, score=score)
    if start:
        writer.write_scalars(0, _named(final, start))
    return start


def _named(split: Split, results: dict) -> dict[str, float]:
    """The figures of an evaluation by the names that curves have."""
    return {f"{split.name}/{k}": v for k, v in flat_metrics(results).items()}


def _describe(params: Any) -> None:
    """Says the number of parameters, in all and of each part of the model."""
    parts = {name: parameter_overview.count_parameters(tree) for name, tree in params.items()}
    listed = ", ".join(f"{name} {count:,}" for name, count in parts.items())
    say(f"{sum(parts.values()):,} parameters: {listed}")
    logging.info(parameter_overview.get_parameter_overview(params, include_stats=False))


def _selecting_score(
    setup: TrainSetup,
    root: pathlib.Path,
    select: Split | None,
    test: Split | None,
    score: Callable[..., Evaluation],
) -> Callable[[int, Any], dict] | None:
    """What the trainer scores (step, params) with, None where there is no split to select on."""
    if select is None:
        return None

    def score_on(split: Split, params: Any) -> dict:
        network = setup.network.with_params(params)
        return score(network, split, quiet=not sys.stderr.isatty()).results

    if test is None:
        return lambda step, params: score_on(select, params)
    both = functools.partial(score_on, select), functools.partial(score_on, test)
    return BestOnTest(root, *both, setup.config.eval.select_metric)


def _best(
    setup: TrainSetup, checkpoints: Checkpoints, shapes: Any, selected_on: str
) -> SelectedParams:
    """The best parameters by the split that selects."""
    checkpoints.wait()
    best = checkpoints.restore_best(shapes)
    return SelectedParams(setup.network.with_params(best), checkpoints.best_step, selected_on)


def _export(root: pathlib.Path, selected: SelectedParams, vocab_path: pathlib.Path) -> None:
    config = selected.network.config
    data = config.train.datasets or config.data.name
    drawn = config.data.name == "synthetic" and not config.train.datasets
    card = {
        "domain": DRAWINGS if drawn else PHOTOGRAPHS,
        "data": data,
        "step": selected.step,
        "selected_on": selected.selected_on,
    }
    save_model(
        root / workdir_lib.MODEL, selected.network.params, config, vocab_path, card, overwrite=True
    )
