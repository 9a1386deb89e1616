"""Scores what is trained: the parameters of a workdir, on one split or on several sets."""

import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from cada_jax.checkpoints import arrays, inspect
from cada_jax.checkpoints import workdir as workdir_lib
from cada_jax.checkpoints.run import Checkpoints
from cada_jax.checkpoints.weights import load_initial
from cada_jax.common.compilation_cache import enable_compilation_cache
from cada_jax.common.console import Timers, say
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.config import CONFIG_FILE, FREE_KEYS_OF_EVAL, check_same_config, validate
from cada_jax.data.prepared_data import PREPARED, PreparedData
from cada_jax.data.split import Split
from cada_jax.distributed import processes
from cada_jax.evaluation import baseline, cross_domain, results
from cada_jax.evaluation.evaluate import Evaluation, evaluate_split
from cada_jax.network import Network, abstract_network
from cada_jax.text.vocabulary import check_model_tokens, vocabulary_digest


@dataclasses.dataclass(frozen=True)
class SelectedParams:
    """Parameters to export and score, and what they are."""

    network: Network
    step: int | None
    selected_on: str  # the split that chose them; "last" step; or where they were read


def evaluate(
    config: ConfigDict,
    workdir: str | os.PathLike,
    *,
    data: PreparedData = PREPARED,
    score: Callable[..., Evaluation] = evaluate_split,
    devices: list | None = None,
) -> dict:
    """Scores what is trained on `config.eval.split`; writes results as training does at its end.

    With `config.eval.datasets` it does so for each of them, see `cross_domain.evaluate_sets`.

    It takes the best parameters in the workdir, else the newest checkpoint's, else the exported
    model there, else `config.init_from`.

    Args:
      config: full config; may differ from the run's in what does not make the network.
      workdir: the run's folder; need not exist when `config.init_from` is set.
      data: where the split comes from; sets of `config.eval.datasets` are prepared ones.
      devices: to use; all there are if None.

    Returns:
      What results.json holds, or cross_domain.json.

    Raises:
      UsageError: nothing is trained there, or what is there does not fit the configuration.
    """
    timers = Timers()
    validate(config, training=False)
    root = arrays.folder_path(workdir)
    workdir_lib.check_ours(root)
    if (root / CONFIG_FILE).exists():
        check_same_config(root, config, FREE_KEYS_OF_EVAL)
    processes.check_same_program(config)
    enable_compilation_cache()
    with timers("data"), processes.first_alone("data"):
        if config.eval.datasets:
            sets, vocab_path = cross_domain.find_sets(config)
            run = functools.partial(_score_sets, config, sets, root)
        else:
            split = data.split(config, config.eval.split)
            vocab_path = split.vocab_path
            run = functools.partial(_score_split, split, root)
    check_model_tokens(config, vocab_path)
    with timers("start"):
        selected = find_trained(abstract_network(config, devices), root, vocab_path)
    say(f"Scoring step {selected.step}, selected on {selected.selected_on}.")
    with workdir_lib.writing_results(root):
        found = run(selected, functools.partial(final_score, timers=timers, score=score))
    say(timers.summary())
    return found


def _score_split(split: Split, root: pathlib.Path, selected: SelectedParams, score) -> dict:
    return score(selected, split, root, start=baseline.read_baseline(root, split))


def _score_sets(config, sets, root: pathlib.Path, selected: SelectedParams, score) -> dict:
    def score_one(own: ConfigDict, split: Split, folder: pathlib.Path) -> dict:
        say(f"On {own.data.name}:")
        network = dataclasses.replace(selected.network, config=own)
        return score(dataclasses.replace(selected, network=network), split, folder)

    found = cross_domain.evaluate_sets(config, sets, root, score_one)
    say(f"{cross_domain.table(found)}\nWritten: {root / 'cross_domain.json'}, .md")
    return found


def provenance_of(vocab_path: pathlib.Path) -> dict[str, str]:
    """What parameters are read with: another vocabulary gives their tokens other meanings."""
    return {"vocabulary": vocabulary_digest(vocab_path)}


def find_trained(network: Network, root: pathlib.Path, vocab_path: pathlib.Path) -> SelectedParams:
    """The parameters that `evaluate` scores, and no optimizer state.

    Args:
      network: its parameters are shapes.

    Raises:
      MissingFileError: nothing is trained there and `config.init_from` is not set.
      UsageError: what is there does not fit the network, or is not all of it.
    """
    provenance = provenance_of(vocab_path)
    with Checkpoints(root, read_only=True, provenance=provenance) as checkpoints:
        if checkpoints.best_step is not None:
            on = checkpoints.best_info()["split"]
            best = checkpoints.restore_best(network.params)
            return SelectedParams(network.with_params(best), checkpoints.best_step, on)
        latest = checkpoints.latest_step
    if latest is not None:
        folder = root / "checkpoints" / str(latest)
        params = inspect.read_params(folder, network.params, provenance)
        return SelectedParams(network.with_params(params), latest, "last")
    exported = (root / workdir_lib.MODEL).exists()
    config = network.config.copy_and_resolve_references()
    if exported:
        config.init_from, config.init_parts = str(root / workdir_lib.MODEL), "all"
    if not config.init_from:
        raise MissingFileError(
            f"{root} holds no checkpoint and no exported model: expected a --workdir that was "
            "trained in (--mode=train), or --config.init_from naming an exported model."
        )
    params, report = load_initial(config, network.params, vocab_path)
    if not report.new_is_neutral:
        raise UsageError(
            f"{config.init_from} is not the whole model, so it is not scored:\n{report}"
        )
    origin = workdir_lib.MODEL if exported else "init_from"
    return SelectedParams(network.with_params(params), None, origin)


def final_score(
    selected: SelectedParams,
    split: Split,
    folder: pathlib.Path,
    *,
    timers: Timers,
    score: Callable[..., Evaluation] = evaluate_split,
    notes: dict[str, Any] | None = None,
    start: dict[str, Any] | None = None,
) -> dict:
    """Scores parameters in both directions, writes all files of results, and says the figures.

    Beside them it says those of the start of the training, if it was scored in the same way.

    Args:
      notes: what else to write into the results.
      start: from `baseline.score_baseline` or `baseline.read_baseline`.

    Returns:
      What results.json holds.
    """
    with timers("evaluation"):
        evaluation = score(
            selected.network,
            split,
            step=selected.step,
            selected_on=selected.selected_on,
            image_to_text=True,
            quiet=not sys.stderr.isatty(),
        )
        evaluation.results.update(notes or {})
        if found := baseline.entry(start, evaluation.results):
            evaluation.results["baseline"] = found
        results.write_evaluation(folder, evaluation, split, selected.network.config)
    _say_figures(evaluation.results)
    say(f"Written: {folder / 'results.json'}, {folder / 'retrieval.png'}")
    return evaluation.results


def _say_figures(found: dict[str, Any]) -> None:
    if found.get("baseline"):
        say(baseline.table(found))
        return
    for stage in ("global", "reranked"):
        figures = "  ".join(f"{k} {v:.2f}" for k, v in found[stage].items())
        say(f"{found['split']} {stage:>8}: {figures}")
    if "baseline" in found:
        say("baseline: not scored")
