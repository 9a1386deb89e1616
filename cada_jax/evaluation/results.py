"""What a scored split leaves behind: results.json, retrieval.png and queries.jsonl."""

import io
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from PIL import Image

from cada_jax.common.files import write_text
from cada_jax.evaluation.picture import Example, Hit, choose_examples, retrieval_picture
from cada_jax.retrieval.ranking import Scored

PICTURE_QUERIES = 8


def write_results(workdir: str | os.PathLike, results: dict[str, Any]) -> pathlib.Path:
    """Writes WORKDIR/results.json, never half of it, and returns its path."""
    path = pathlib.Path(workdir) / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(results, indent=2) + "\n")
    return path


def query_rows(split: Any, scored: Scored) -> Iterator[dict[str, Any]]:
    """Yields one record for each caption, for error analysis.

    Args:
      split: its texts, image_paths, pids and caption_image are read.
      scored: from `scoring.score` on the same split.

    Yields:
      query: number of the caption; caption: cleaned; image: the one it describes; pid;
      rank_global, rank_reranked: of the first right image, from 1, None without one;
      average_precision: in percent, None without one; hits: the best images after re-ranking,
      each with image, pid, right, similarity and match_logit (None below the top k).
    """
    for query, text in enumerate(split.texts):
        own = split.caption_image[query]
        pid = int(split.image_pids[own])
        hits = [
            {
                "image": split.image_paths[image],
                "pid": int(split.image_pids[image]),
                "right": bool(split.image_pids[image] == pid),
                "similarity": round(similarity, 6),
                "match_logit": None if logit is None else round(logit, 6),
            }
            for image, similarity, logit in scored.best(query)
        ]
        precision = float(scored.average_precision[query])
        yield {
            "query": query,
            "caption": text,
            "image": split.image_paths[own],
            "pid": pid,
            "rank_global": int(scored.first_global[query]) + 1 or None,
            "rank_reranked": int(scored.first_reranked[query]) + 1 or None,
            "average_precision": None if math.isnan(precision) else round(100 * precision, 4),
            "hits": hits,
        }


def write_queries(workdir: str | os.PathLike, split: Any, scored: Scored) -> pathlib.Path:
    """Writes WORKDIR/queries.jsonl, one line of `query_rows` each, and returns its path."""
    path = pathlib.Path(workdir) / "queries.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row) + "\n" for row in query_rows(split, scored)))
    return path


def draw_examples(split: Any, scored: Scored, results: dict[str, Any]) -> Image.Image:
    """The retrieval picture of some queries of a scored split.

    Args:
      split: its texts, encoded images, pids and caption_image are read.
      scored: from `score` on the same split.
      results: from `evaluate`, for the title.
    """
    examples = []
    chosen = choose_examples(scored.first_global, scored.first_reranked, PICTURE_QUERIES)
    for query in chosen:
        own = split.caption_image[query]
        hits = []
        for image, similarity, logit in scored.best(query):
            hits.append(
                Hit(
                    _decode(split, image),
                    right=bool(split.image_pids[image] == split.image_pids[own]),
                    own=bool(image == own),
                    label=f"{similarity:.2f}" + (f" {logit:+.1f}" if logit is not None else ""),
                )
            )
        verdict = _verdict(scored.first_global[query] + 1, scored.first_reranked[query] + 1)
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


def _decode(split: Any, image: int) -> Image.Image:
    return Image.open(io.BytesIO(split.images[image])).convert("RGB")
