"""Scores one split in two stages; the same function in training and alone.

Writes WORKDIR/results.json and WORKDIR/retrieval.png when it is given a folder.
"""

import io
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from cada_jax import retrieval
from cada_jax.data import input_pipeline
from cada_jax.errors import DivergedError, UsageError
from cada_jax.metrics import RankMetrics
from cada_jax.retrieval import Gallery, Progress, Queries, Retrieved
from cada_jax.retrieval_picture import (
    Example,
    Hit,
    choose_examples,
    retrieval_picture,
    save_picture,
)
from cada_jax.sharding import host_share, param_shardings
from cada_jax.workdir import write_file

# The order of this many best images by the match logit alone is reported as a diagnostic.
MATCH_ONLY_TOP = 16
PICTURE_QUERIES, PICTURE_HITS = 8, 10


class Scored(NamedTuple):
    """What the two stages found.

    metrics: as in the results file; retrieved: the top k; shown, shown_similarity: [Q,max(k,10)],
    the nearest images by similarity alone; first_global, first_reranked: int [Q], rank (0 is the
    best) of each query's first right image in either order, -1 without one; excluded: queries
    without a right image; seconds: of either stage.
    """

    metrics: dict[str, Any]
    retrieved: Retrieved
    shown: np.ndarray
    shown_similarity: np.ndarray
    first_global: np.ndarray
    first_reranked: np.ndarray
    excluded: int
    seconds: dict[str, float]

    def best(self, query: int, count: int = PICTURE_HITS) -> list[tuple[int, float, float | None]]:
        """The first `count` of a query's ranking: (image, similarity, match logit or None)."""
        k = self.retrieved.indices.shape[1]
        places = np.argsort(-self.retrieved.score[query], kind="stable").tolist()
        places += range(k, self.shown.shape[1])
        return [
            (
                int(self.shown[query, p]),
                float(self.shown_similarity[query, p]),
                float(self.retrieved.match_logit[query, p]) if p < k else None,
            )
            for p in places[:count]
        ]


def evaluate(
    model: nn.Module,
    params: Any,
    split: input_pipeline.Split,
    config: ConfigDict,
    mesh: Mesh,
    *,
    step: int | None = None,
    selected_on: str | None = None,
    workdir: str | os.PathLike | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Scores parameters on all captions and images of a split.

    Args:
      model: from `models.cada.from_config(config)`.
      params: its parameters, on the mesh or on the host.
      split: from `input_pipeline.load_split`.
      config: full config; reads data.name, data.image_size and eval.
      mesh: from `sharding.make_mesh`.
      step: of training, only to be written into the results.
      selected_on: the split that chose these parameters, only to be written.
      workdir: where results.json and retrieval.png go; None writes nothing.
      quiet: no progress bars.

    Returns:
      The results, in percent, ready for JSON: "global" by similarity alone, "reranked" with the
      decoder's match logit added inside the top k (equal to "global" for k = 0), "match_only"
      with the top min(k, 16) in the order of the logit alone, "right_in_top_k" the share of
      queries that re-ranking can bring a right image to the front for.

    Raises:
      UsageError: config.eval.rerank_top_k is negative, or no caption's person is in the gallery.
      DivergedError: an embedding or a logit is not a finite number.
    """
    k = config.eval.rerank_top_k
    if k < 0:
        raise UsageError(f"config.eval.rerank_top_k is {k}, expected 0 (stage one only) or more")
    params = jax.device_put(params, param_shardings(mesh, params))
    start = time.monotonic()
    gallery, queries = _embed(model, params, split, config, mesh, quiet)
    encoded = time.monotonic() - start
    scored = score(
        model,
        params,
        gallery,
        queries,
        min(k, len(gallery.pids)),
        mesh,
        config.eval.rerank_batch,
        None if quiet else progress_bar,
    )
    results = {
        "dataset": config.data.name,
        "dataset_version": split.dataset,
        "split": split.name,
        "num_queries": len(queries.pids),
        "num_gallery": len(gallery.pids),
        "rerank_top_k": scored.retrieved.indices.shape[1],
        "selected_on": selected_on,
        "step": step,
        "parameters": sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params)),
        **scored.metrics,
        "queries_left_out": scored.excluded,
        "seconds": {"encode": round(encoded, 2), **scored.seconds},
    }
    if workdir is not None and jax.process_index() == 0:
        write_results(workdir, results)
        save_picture(pathlib.Path(workdir) / "retrieval.png", draw_examples(split, scored, results))
    return results


def score(
    model: nn.Module,
    params: Any,
    gallery: Gallery,
    queries: Queries,
    k: int,
    mesh: Mesh,
    rerank_batch: int,
    progress: Progress | None = None,
) -> Scored:
    """Both stages on what is already encoded.

    Args:
      model: from `models.cada.from_config`.
      params: its parameters, on `mesh`.
      gallery: from `retrieval.embed_gallery`.
      queries: from `retrieval.embed_queries`.
      k: images of each query that the decoder scores, 0 to the size of the gallery.
      mesh: from `sharding.make_mesh`.
      rerank_batch: pairs decoded at once over all devices.
      progress: wraps the long loops.

    Raises:
      UsageError: no query's person is in the gallery.
      DivergedError: an embedding or a logit is not a finite number.
    """
    _check_finite("image embeddings", gallery.embeddings)
    _check_finite("text embeddings", queries.embeddings)
    if not np.isin(queries.pids, gallery.pids).any():
        raise UsageError(
            f"None of the {len(queries.pids)} captions is of a person in the gallery of "
            f"{len(gallery.pids)} images, so nothing can be scored: check the split's pids"
        )
    start = time.monotonic()
    shown, shown_similarity = retrieval.global_topk(
        queries.embeddings, gallery.embeddings, min(max(k, PICTURE_HITS), len(gallery.pids)), mesh
    )
    indices, similarity = shown[:, :k], shown_similarity[:, :k]
    logits = retrieval.rerank(
        model, params, queries.token_ids, gallery.tokens, indices, mesh, rerank_batch, progress
    )
    _check_finite("match logits", logits)
    retrieved = Retrieved(indices, similarity, logits)
    ranked = time.monotonic()
    by_similarity, reranked, match_only = RankMetrics(), RankMetrics(), RankMetrics()
    few = min(k, MATCH_ONLY_TOP)
    blocks = retrieval.similarity_blocks(queries.embeddings, gallery.embeddings, mesh)
    for rows, block in blocks:
        right = queries.pids[rows, None] == gallery.pids[None]
        by_similarity.add(block, right)
        reranked.add(block, right, indices[rows], retrieved.score[rows])
        match_only.add(block, right, indices[rows, :few], logits[rows, :few])
    hit = (queries.pids[:, None] == gallery.pids[indices]).any(axis=1)
    counted = by_similarity.first_rank >= 0
    metrics = {
        "global": by_similarity.result(),
        "reranked": reranked.result(),
        "match_only": {"top_k": few, **match_only.result()},
        "right_in_top_k": 100 * float(hit[counted].mean()),
    }
    seconds = {
        "rank": round(ranked - start, 2),
        "metrics": round(time.monotonic() - ranked, 2),
    }
    return Scored(
        metrics=metrics,
        retrieved=retrieved,
        shown=shown,
        shown_similarity=shown_similarity,
        first_global=by_similarity.first_rank,
        first_reranked=reranked.first_rank,
        excluded=by_similarity.excluded,
        seconds=seconds,
    )


def progress_bar(items: Iterable, total: int, text: str) -> Iterable:
    """A tqdm bar with the time left; in a log file a line every half minute."""
    return tqdm(
        items,
        desc=text,
        total=total,
        leave=False,
        disable=jax.process_index() != 0,
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
    )


def write_results(workdir: str | os.PathLike, results: dict[str, Any]) -> pathlib.Path:
    """Writes WORKDIR/results.json, never half of it, and returns its path."""
    path = pathlib.Path(workdir) / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(results, indent=2) + "\n")
    return path


def draw_examples(
    split: input_pipeline.Split, scored: Scored, results: dict[str, Any]
) -> Image.Image:
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


def _embed(model, params, split, config, mesh, quiet) -> tuple[Gallery, Queries]:
    """Encodes a split; every host reads its share of each batch, and gets what all encoded."""
    batch, share = config.eval.batch_size, host_share(mesh)
    encoded = []
    for encode, batches, size, text in (
        (retrieval.embed_gallery, input_pipeline.gallery_batches, split.num_images, "images"),
        (retrieval.embed_queries, input_pipeline.query_batches, split.num_captions, "captions"),
    ):
        read = batches(split, config, batch, *share)
        if not quiet:
            read = progress_bar(read, -(-size // batch), f"encode {text}")
        encoded.append(encode(model, params, read, size, mesh))
    return encoded[0], encoded[1]


def _decode(split: input_pipeline.Split, image: int) -> Image.Image:
    return Image.open(io.BytesIO(split.images[image])).convert("RGB")


def _check_finite(what: str, values: np.ndarray) -> None:
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise DivergedError(
            f"{bad} of {values.size} {what} are not finite numbers, so images cannot be ranked: "
            "the parameters hold NaN or overflow. Score another checkpoint, or train again with a "
            "lower config.optimizer.learning_rate."
        )
