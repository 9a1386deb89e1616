"""A run from its configuration to its results: training, and scoring alone."""

import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
from absl import logging
from clu import metric_writers, parameter_overview
from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.checkpoints.export import save_model
from cada_jax.checkpoints.manager import Checkpoints
from cada_jax.checkpoints.weights import load_initial
from cada_jax.common import compilation_cache
from cada_jax.common.console import Timers, say
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.pytrees import abstract_arrays
from cada_jax.data import batches, mixture, registry
from cada_jax.data import split as split_lib
from cada_jax.distributed import mesh as mesh_lib
from cada_jax.distributed import processes
from cada_jax.evaluation import cross_domain, evaluate
from cada_jax.evaluation.test_selection import BestOnTest
from cada_jax.models import cada
from cada_jax.text.vocabulary import check_model_tokens
from cada_jax.training import optimizer, train_step
from cada_jax.training import workdir as workdir_lib
from cada_jax.training.loop import Loop, Program, flat_metrics


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Parameters to export and score, and what they are."""

    params: Any
    step: int | None
    selected_on: str  # the split that chose them; "last" step; or where they were read


def build(config: ConfigDict, vocab_path: pathlib.Path, steps_per_epoch: int = 1) -> Program:
    """Builds mesh, model and optimizer.

    Args:
      config: full config.
      vocab_path: the vocabulary of the data; the model's token numbers must be its.
      steps_per_epoch: of the training split; without training any number does.

    Raises:
      UsageError: the configuration asks for what cannot be.
    """
    check_model_tokens(config, vocab_path)
    try:
        mesh = mesh_lib.make_mesh(config.mesh)
        for part in ("image", "text"):
            heads = config.model[part].heads
            mesh_lib.check_heads(mesh, heads, f"config.model.{part}.heads")
        model = cada.from_config(config)
        tx = optimizer.make_optimizer(config, steps_per_epoch)
        schedule = optimizer.make_schedule(config, steps_per_epoch)
    except ValueError as e:  # these check what they read of the config, and name the field
        raise UsageError(str(e)) from e
    shapes = jax.eval_shape(lambda: train_step.init_state(model, tx, config, mesh))
    state = abstract_arrays(shapes, train_step.state_shardings(mesh, shapes))
    return Program(config, mesh, model, tx, schedule, state)


def start_state(
    program: Program, checkpoints: Checkpoints, vocab_path: pathlib.Path
) -> train_step.TrainState:
    """The newest checkpoint's state, else a first one, from `config.init_from` if that is set."""
    if checkpoints.latest_step is not None:
        say(f"Continuing after step {checkpoints.latest_step}.")
        return checkpoints.restore(program.state)
    config = program.config
    state = train_step.init_state(program.model, program.tx, config, program.mesh)
    if config.init_from:
        params, report = load_initial(config, state.params, vocab_path)
        say(f"Weights from {config.init_from}:\n{report}")
        state = state.replace(params=params)
    return state


def describe_parameters(params: Any) -> str:
    """The number of parameters, in all and of each part of the model."""
    parts = {name: parameter_overview.count_parameters(tree) for name, tree in params.items()}
    listed = ", ".join(f"{name} {count:,}" for name, count in parts.items())
    return f"{sum(parts.values()):,} parameters: {listed}"


def _select_split(config: ConfigDict) -> split_lib.Split | None:
    """The split that chooses the best checkpoint, None where the data set has no val."""
    name = config.eval.select_on
    if name == "val" and name not in registry.prepared_builder(config).info.splits:
        say(f"{config.data.name} has no val split: the last step is scored, not the best.")
        return None
    return split_lib.load_split(config, name)


def train(config: ConfigDict, workdir: str | os.PathLike) -> dict:
    """Trains, or continues a run, then exports and scores its best parameters.

    Args:
      config: full config.
      workdir: the run's folder, created if missing.

    Returns:
      What results.json holds.

    Raises:
      UsageError: the workdir, the data or the configuration is not usable.
      DivergedError, StoppedError: see `loop.Loop.run`.
    """
    timers = Timers()
    processes.check_same_program(config)
    root = workdir_lib.prepare(workdir, config)
    processes.check_shared(root)
    compilation_cache.enable_compilation_cache()
    with timers("data"), processes.first_alone("data"):
        split = mixture.load_training(config)
        select = _select_split(config)
        steps_per_epoch = batches.steps_per_epoch(split, config)
    program = build(config, split.vocab_path, steps_per_epoch)
    try:
        mesh_lib.check_batch(program.mesh, config.train.batch_size, "config.train.batch_size")
        mesh_lib.check_accumulation(
            program.mesh, config.train.batch_size, config.train.accumulation
        )
    except ValueError as e:
        raise UsageError(str(e)) from e
    writer = metric_writers.create_default_writer(root, just_logging=jax.process_index() > 0)
    try:
        with Checkpoints(root, config.train.keep_checkpoints) as checkpoints:
            with timers("start"):
                state = start_state(program, checkpoints, split.vocab_path)
            say(describe_parameters(state.params))
            logging.info(
                parameter_overview.get_parameter_overview(state.params, include_stats=False)
            )
            score = _selecting_score(program, root, select)
            loop = Loop(program, root, checkpoints, writer, timers, score)
            state = loop.run(state, split, steps_per_epoch)
            chosen = Chosen(state.params, int(state.step), "last")
            del state  # two thirds of it are the optimizer's
            if select:
                del chosen
                checkpoints.wait()
                best = checkpoints.restore_best(program.state.params)
                chosen = Chosen(best, checkpoints.best_step, select.name)
        notes = {"test_selected": score.best} if isinstance(score, BestOnTest) else {}
        results = _finish(program, root, chosen, split.vocab_path, writer, timers, notes)
    finally:
        writer.close()
    say(timers.summary())
    return results


def evaluate_only(config: ConfigDict, workdir: str | os.PathLike) -> dict:
    """Scores what is trained on `config.eval.split`; writes results as `train` does.

    With `config.eval.datasets` it does so for each of them, see `cross_domain.evaluate_sets`.

    It takes the best parameters in the workdir, else the newest checkpoint's, else the exported
    model there, else `config.init_from`.

    Args:
      config: full config; may differ from the run's in what does not make the network.
      workdir: the run's folder; need not exist when `config.init_from` is set.

    Raises:
      UsageError: nothing is trained there, or what is there does not fit the configuration.
    """
    timers = Timers()
    root = pathlib.Path(workdir).expanduser().absolute()
    if (root / config_lib.CONFIG_FILE).exists():
        config_lib.check_same_config(root, config, config_lib.FREE_KEYS_OF_EVAL)
    processes.check_same_program(config)
    compilation_cache.enable_compilation_cache()
    several = bool(config.eval.datasets)
    with timers("data"), processes.first_alone("data"):
        if several:
            sets, vocab_path = cross_domain.find_sets(config)
        else:
            split = split_lib.load_split(config, config.eval.split)
            vocab_path = split.vocab_path
    program = build(config, vocab_path)
    with timers("start"):
        chosen = _trained(program, root, vocab_path)
    say(f"Scoring step {chosen.step}, selected on {chosen.selected_on}.")
    if several:

        def score(own: ConfigDict, split: split_lib.Split, folder: pathlib.Path) -> dict:
            say(f"On {own.data.name}:")
            its = dataclasses.replace(program, config=own)
            return _final_score(its, folder, chosen, split, timers)

        results = cross_domain.evaluate_sets(config, sets, root, score)
        say(f"{cross_domain.table(results)}\nWritten: {root / 'cross_domain.json'}, .md")
    else:
        results = _final_score(program, root, chosen, split, timers)
    say(timers.summary())
    return results


def _trained(program: Program, root: pathlib.Path, vocab_path: pathlib.Path) -> Chosen:
    with Checkpoints(root, read_only=True) as checkpoints:
        if checkpoints.best_step is not None:
            on = checkpoints.best_info()["split"]
            best = checkpoints.restore_best(program.state.params)
            return Chosen(best, checkpoints.best_step, on)
        if checkpoints.latest_step is not None:
            state = checkpoints.restore(program.state)
            return Chosen(state.params, int(state.step), "last")
    exported = (root / "model").exists()
    config = program.config.copy_and_resolve_references()
    if exported:
        config.init_from = str(root / "model")
    if not config.init_from:
        raise MissingFileError(
            f"{root} holds no checkpoint and no exported model: expected a --workdir that was "
            "trained in (--mode=train), or --config.init_from naming an exported model."
        )
    params, report = load_initial(config, program.state.params, vocab_path)
    if report.new:
        raise UsageError(
            f"{config.init_from} is not the whole model, so it is not scored:\n{report}"
        )
    return Chosen(params, None, "model" if exported else "init_from")


def _score(program: Program, split: split_lib.Split, params: Any) -> dict:
    return evaluate.evaluate(
        program.model, params, split, program.config, program.mesh, quiet=not sys.stderr.isatty()
    )


def _selecting_score(
    program: Program, root: pathlib.Path, select: split_lib.Split | None
) -> Callable[[int, Any], dict] | None:
    """What the loop scores (step, params) with, None where there is no split to select on."""
    config = program.config
    if select is None:
        return None
    score = functools.partial(_score, program, select)
    if not config.eval.track_test or select.name == "test":
        return lambda step, params: score(params)
    test = split_lib.load_split(config, "test")
    return BestOnTest(
        root, score, functools.partial(_score, program, test), config.eval.select_metric
    )


def _final_score(
    program: Program,
    root: pathlib.Path,
    chosen: Chosen,
    split: split_lib.Split,
    timers: Timers,
    notes: dict | None = None,
) -> dict:
    with timers("evaluation"):
        results = evaluate.evaluate(
            program.model,
            chosen.params,
            split,
            program.config,
            program.mesh,
            step=chosen.step,
            selected_on=chosen.selected_on,
            workdir=root,
            quiet=not sys.stderr.isatty(),
            notes=notes,
        )
    for stage in ("global", "reranked"):
        figures = "  ".join(f"{name} {value:.2f}" for name, value in results[stage].items())
        say(f"{split.name} {stage:>8}: {figures}")
    say(f"Written: {root / 'results.json'}, {root / 'retrieval.png'}")
    return results


def _finish(
    program: Program,
    root: pathlib.Path,
    chosen: Chosen,
    vocab_path: pathlib.Path,
    writer: metric_writers.MetricWriter,
    timers: Timers,
    notes: dict,
) -> dict:
    """Exports and scores the parameters that a run ends with."""
    config = program.config
    data = config.train.datasets or config.data.name
    card = {"step": chosen.step, "selected_on": chosen.selected_on, "data": data}
    save_model(root / "model", chosen.params, config, vocab_path, card)
    split = split_lib.load_split(config, config.eval.split)
    results = _final_score(program, root, chosen, split, timers, notes)
    figures = {f"{split.name}/{k}": v for k, v in flat_metrics(results).items()}
    writer.write_scalars(chosen.step, figures)
    return results
