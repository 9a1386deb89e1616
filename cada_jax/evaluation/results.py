"""What a scored split leaves behind: results.json, retrieval.png and queries.jsonl."""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict
from PIL import Image

from cada_jax.common.files import whole_file
from cada_jax.common.images import read_rgb
from cada_jax.data.split import Split
from cada_jax.evaluation.evaluate import Evaluation
from cada_jax.evaluation.picture import (
    Example,
    Hit,
    choose_examples,
    retrieval_picture,
)
from cada_jax.retrieval.ranking import Ranking

PICTURE_QUERIES = 8
# What an evaluation leaves in its folder, all of it of the same evaluation.
RESULTS_FILE, PICTURE_FILE, QUERIES_FILE = "results.json", "retrieval.png", "queries.jsonl"


def write_evaluation(
    folder: str | os.PathLike, evaluation: Evaluation, split: Split, config: ConfigDict
) -> None:
    """Writes results.json, retrieval.png and, by `config.eval.save_queries`, queries.jsonl.

    Process 0 writes. All files are written beside those of an evaluation before, then renamed
    together, so that the folder holds files of one evaluation.
    """
    if jax.process_index() > 0:
        return
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as files:

        def partial(name: str) -> pathlib.Path:
            return files.enter_context(whole_file(folder / name))

        partial(RESULTS_FILE).write_text(json.dumps(evaluation.results, indent=2) + "\n")
        ranking = evaluation.ranking
        if ranking is not None:
            picture = draw_examples(split, ranking, evaluation.results)
            picture.save(partial(PICTURE_FILE), format="PNG", optimize=True)
        if ranking is not None and config.eval.save_queries:
            rows = query_rows(split, ranking)
            partial(QUERIES_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    if not config.eval.save_queries:
        (folder / QUERIES_FILE).unlink(missing_ok=True)


def query_rows(split: Split, ranking: Ranking) -> Iterator[dict[str, Any]]:
    """Yields one record for each caption, for error analysis.

    Args:
      split: its texts, image_paths, pids and caption_image are read.
      ranking: from `ranking.rank` on the same split.

    Yields:
      query: number of the caption; caption: cleaned; image: the one it describes; pid: the person
      as published; rank_global, rank_reranked: of the first right image, from 1, None without one;
      average_precision: in percent, None without one; hits: the best images after re-ranking,
      each with image, pid, right, similarity and match_logit (None below the top k).
    """
    for query, text in enumerate(split.texts):
        own = split.caption_image[query]
        number = split.image_pids[own]
        hits = [
            {
                "image": split.image_paths[image],
                "pid": split.person(split.image_pids[image]),
                "right": bool(split.image_pids[image] == number),
                "similarity": round(similarity, 6),
                "match_logit": None if logit is None else round(logit, 6),
            }
            for image, similarity, logit in ranking.best(query)
        ]
        precision = float(ranking.average_precision[query])
        yield {
            "query": query,
            "caption": text,
            "image": split.image_paths[own],
            "pid": split.person(number),
            "rank_global": int(ranking.first_global[query]) + 1 or None,
            "rank_reranked": int(ranking.first_reranked[query]) + 1 or None,
            "average_precision": None if math.isnan(precision) else round(100 * precision, 4),
            "hits": hits,
        }


def draw_examples(split: Split, ranking: Ranking, results: dict[str, Any]) -> Image.Image:
    """The retrieval picture of some queries of a scored split.

    Args:
      split: its texts, encoded images, pids and caption_image are read.
      ranking: from `ranking.rank` on the same split.
    """
    examples = []
    chosen = choose_examples(ranking.first_global, ranking.first_reranked, PICTURE_QUERIES)
    for query in chosen:
        own = split.caption_image[query]
        hits = []
        for image, similarity, logit in ranking.best(query):
            hits.append(
                Hit(
                    _decode(split, image),
                    right=bool(split.image_pids[image] == split.image_pids[own]),
                    own=bool(image == own),
                    label=f"{similarity:.2f}" + (f" {logit:+.1f}" if logit is not None else ""),
                )
            )
        verdict = _verdict(ranking.first_global[query] + 1, ranking.first_reranked[query] + 1)
        examples.append(Example(split.texts[query], verdict, _decode(split, own), hits))
    return retrieval_picture(examples, *_titles(results))


def _verdict(before: int, after: int) -> str:
    """Ranks, from 1, of the first right image by similarity and after re-ranking."""
    if after > 1:
        text = f"missed: first right image at rank {after}"
        return text if before == after else f"{text} (was {before})"
    return "found" if before == 1 else f"corrected: rank {before} by similarity alone"


def _titles(results: dict[str, Any]) -> tuple[str, str]:
    title = (
        f"{results['dataset']} {results['split']}: "
        f"R@1 {results['reranked']['R1']:.1f} %, mAP {results['reranked']['mAP']:.1f} %"
    )
    subtitle = (
        f"{results['num_queries']} captions search {results['num_gallery']} images; similarity "
        f"alone R@1 {results['global']['R1']:.1f} %. A green frame with a tick: the person "
        "described; red with a cross: somebody else; blue line: the very image that was described. "
        f"Below: similarity, and the match logit added to it in the top {results['rerank_top_k']}. "
        "The rows are picked: found by similarity, corrected by the decoder, and failures."
    )
    return title, subtitle


def _decode(split: Split, image: int) -> Image.Image:
    return Image.fromarray(read_rgb(split.images[image], split.image_paths[image]))
