"""What training starts from, scored like what it ends with: results_baseline.json and its table.

A run scores its starting parameters once. A run that was stopped reads the file instead.
"""

import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax

from cada_jax.checkpoints import inspect
from cada_jax.common.console import Timers, duration, say
from cada_jax.common.files import write_text
from cada_jax.common.pytrees import to_host
from cada_jax.data.split import Split
from cada_jax.distributed import processes
from cada_jax.evaluation.evaluate import Evaluation
from cada_jax.network import Network

BASELINE_FILE = "results_baseline.json"
RANDOM = "random weights"
TIMER = "evaluation of the start"
# Two scores are compared only if these are equal in both.
_SAME = (
    "dataset_version",
    "split",
    "caption_protocol",
    "num_queries",
    "num_gallery",
    "rerank_top_k",
)
# What results.json repeats of the file.
_ENTRY = ("start", "step", "global", "reranked", "match_only", "right_in_top_k", "image_to_text")
_STAGES = ("global", "reranked")


def score_baseline(
    network: Network,
    split: Split,
    root: pathlib.Path,
    *,
    timers: Timers,
    score: Callable[..., Evaluation],
) -> dict[str, Any] | None:
    """Scores the parameters that a new run starts from, and keeps what they got.

    A run that was killed before its first checkpoint comes here again. It takes the score that is
    kept, if that is of the same parameters and the same data. Another score is replaced; with
    `config.eval.baseline` off it is removed, since it is not this run's.

    Every process calls it; process 0 writes. Nothing random is drawn and no parameter changes.

    Args:
      network: with the starting parameters; `init_from` and `eval` of its config are read.
      split: what is scored at the end.
      root: the run's folder, locked.
      timers: where the time is counted.
      score: as `evaluate_split`.

    Returns:
      What the file holds; None if `config.eval.baseline` is off.

    Raises:
      DivergedError: the starting parameters give no finite numbers.
    """
    config = network.config
    if not config.eval.baseline:
        if jax.process_index() == 0:
            (root / BASELINE_FILE).unlink(missing_ok=True)
        return None
    digest = inspect.digest(to_host(network.params))
    stored = read_baseline(root, split)
    asked = [config.eval.rerank_top_k, config.eval.image_to_text_top_k]
    if stored and (stored["parameters_digest"], stored["asked"]) == (digest, asked):
        say(f"The start is scored already: {root / BASELINE_FILE}")
        return stored
    say(f"Scoring the start on {split.name}, before the first step (eval.baseline).")
    with timers(TIMER):
        results = _score(network, split, score)
    kept: dict[str, Any] = {
        **results,
        "start": _name_of_start(config),
        "parameters_digest": digest,
        "data_digest": split.data_digest,
        "asked": asked,
    }
    if jax.process_index() == 0:
        write_text(root / BASELINE_FILE, json.dumps(kept, indent=2) + "\n")
    figures = "  ".join(f"{stage} R1 {kept[stage]['R1']:.2f}" for stage in _STAGES)
    say(f"start: {figures}  ({duration(timers.seconds[TIMER])})")
    return kept


def _score(network: Network, split: Split, score: Callable[..., Evaluation]) -> dict[str, Any]:
    """The same evaluation as at the end."""
    quiet = not sys.stderr.isatty()
    return score(
        network, split, step=0, selected_on="start", image_to_text=True, quiet=quiet
    ).results


def read_baseline(root: pathlib.Path, split: Split) -> dict[str, Any] | None:
    """The kept score of a run's start, if there is one of this split.

    What process 0 reads counts for all of them, so that they all go the same way.

    Args:
      root: the run's folder.
      split: what is scored.
    """
    path = root / BASELINE_FILE
    own = ""
    if jax.process_index() == 0 and path.is_file():
        own = path.read_text(encoding="utf-8", errors="replace")
    text = processes.everyones(own)[0]
    try:
        kept = json.loads(text)
    except ValueError:
        return None
    needed = {*_STAGES, "parameters_digest", "data_digest", "asked"}
    if not isinstance(kept, dict) or not needed <= set(kept):
        return None
    return kept if kept["data_digest"] == split.data_digest else None


def entry(start: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, Any] | None:
    """What results.json says of the start; None if it was not scored, or not in the same way.

    Args:
      start: from `score_baseline` or `read_baseline`.
      after: the results of what was trained.
    """
    if start is None or any(start.get(key) != after.get(key) for key in _SAME):
        return None
    return {key: start[key] for key in _ENTRY if key in start}


def table(results: dict[str, Any]) -> str:
    """The figures of results with an entry "baseline", a line each: before, after, difference.

    In percent of the queries, and in points.
    """
    start = results["baseline"]
    head = f"{results['split']:<15}{'before':>8}{'after':>8}{'change':>8}"
    lines = [f"{head}    before: {start.get('start', RANDOM)}"]
    for stage in _STAGES:
        for name, after in results[stage].items():
            before = start[stage].get(name)
            if before is None:
                continue
            title = f"{stage:<9}{name:<6}"
            lines.append(f"{title}{before:>8.2f}{after:>8.2f}{after - before:>+8.2f}")
    return "\n".join(lines)


def _name_of_start(config: Any) -> str:
    if not config.init_from:
        return RANDOM
    return config.init_from + (" (encoders only)" if config.init_parts == "encoders" else "")
