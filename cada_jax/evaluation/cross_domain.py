"""One trained model tested on several data sets: `--mode=eval --config.eval.datasets=cuhk,icfg`."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from cada_jax.common.files import write_text
from cada_jax.data.mixture import named_sets
from cada_jax.data.split import Split, check_split, load_split
from cada_jax.text.vocabulary import VOCABULARY_FILE, check_same_vocabulary

COLUMNS = ("R1", "R5", "R10", "mAP", "mINP")


def find_sets(config: ConfigDict) -> tuple[dict[str, ConfigDict], pathlib.Path]:
    """Returns the configuration of each set in `config.eval.datasets`, and their vocabulary.

    All of them are looked up before any is scored, which may take hours.

    Raises:
      MissingFileError: a set is not prepared; says how to.
      UsageError: an unknown set, one without `config.eval.split`, a damaged file, or another
        vocabulary.
    """
    sets = named_sets(config, "eval.datasets")
    vocabularies = {}
    for label, own in sets.items():
        builder = check_split(own, config.eval.split)
        vocabularies[label] = pathlib.Path(builder.data_dir) / VOCABULARY_FILE
    check_same_vocabulary(vocabularies)
    return sets, next(iter(vocabularies.values()))


def evaluate_sets(
    config: ConfigDict,
    sets: dict[str, ConfigDict],
    root: pathlib.Path,
    score: Callable[[ConfigDict, Split, pathlib.Path], dict[str, Any]],
) -> dict[str, Any]:
    """Scores every set and writes WORKDIR/cross_domain.json and cross_domain.md.

    Args:
      config: of the run.
      sets: from `find_sets`.
      root: the run's folder; a set's own files go to WORKDIR/eval/NAME-SPLIT.
      score: (the set's configuration, its split, its folder) -> results.

    Returns:
      {"trained_on", "tested_on": {set: results}}.
    """
    results: dict[str, Any] = {
        "trained_on": config.train.datasets or config.data.name,
        "tested_on": {},
    }
    for label, own in sets.items():
        split = load_split(own, config.eval.split)
        folder = root / "eval" / f"{label.replace('/', '-')}-{split.name}"
        results["tested_on"][label] = score(own, split, folder)
        if jax.process_index() == 0:  # after each: the next one may fail
            root.mkdir(parents=True, exist_ok=True)
            write_text(root / "cross_domain.json", json.dumps(results, indent=2) + "\n")
            write_text(root / "cross_domain.md", table(results) + "\n")
    return results


def table(results: dict[str, Any]) -> str:
    """Returns what `evaluate_sets` returned as a Markdown table, in percent."""
    lines = [
        f"Trained on {results['trained_on']}.",
        "",
        f"| tested on | direction | {' | '.join(f'{c} global' for c in COLUMNS)} | "
        f"{' | '.join(f'{c} reranked' for c in COLUMNS)} |",
        "|---" * (2 + 2 * len(COLUMNS)) + "|",
    ]
    for label, found in results["tested_on"].items():
        test = f"{label} {found['split']} ({found['caption_protocol']})"
        directions = {"text to image": found, "image to text": found["image_to_text"]}
        for direction, of in directions.items():
            figures = [of[stage][c] for stage in ("global", "reranked") for c in COLUMNS]
            cells = " | ".join(f"{figure:.2f}" for figure in figures)
            lines.append(f"| {test} | {direction}, top {of['rerank_top_k']} | {cells} |")
    return "\n".join(lines)
