"""Scores one split in two stages; the same function in training and alone.

Writes WORKDIR/results.json, retrieval.png and queries.jsonl when it is given a folder.
"""

import os
import pathlib
import sys
import time
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from cada_jax.common.errors import UsageError
from cada_jax.data import batches as batches_lib
from cada_jax.data import split as split_lib
from cada_jax.distributed.mesh import process_batch_slice
from cada_jax.distributed.partitioning import param_shardings
from cada_jax.evaluation.picture import save_picture
from cada_jax.evaluation.results import draw_examples, write_queries, write_results
from cada_jax.retrieval import encode as encode_lib
from cada_jax.retrieval.encode import Gallery, Queries
from cada_jax.retrieval.ranking import score, score_image_to_text


def evaluate(
    model: nn.Module,
    params: Any,
    split: split_lib.Split,
    config: ConfigDict,
    mesh: Mesh,
    *,
    step: int | None = None,
    selected_on: str | None = None,
    workdir: str | os.PathLike | None = None,
    quiet: bool = False,
    notes: dict[str, Any] | None = None,
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
      workdir: where results.json, retrieval.png and, by config.eval.save_queries, queries.jsonl
        go, with the direction image to text scored as well; None writes nothing.
      quiet: no progress bars.
      notes: what else to write into the results.

    Returns:
      The results, in percent, ready for JSON: "global" by similarity alone, "reranked" with the
      decoder's match logit added inside the top k (equal to "global" for k = 0), "match_only"
      with the top min(k, 16) in the order of the logit alone, "right_in_top_k" the share of
      queries that re-ranking can bring a right image to the front for. With a workdir also
      "image_to_text", see `scoring.score_image_to_text`.

    Raises:
      UsageError: config.eval.rerank_top_k is negative, or no caption's person is in the gallery.
      DivergedError: an embedding or a logit is not a finite number.
    """
    k, k_images = config.eval.rerank_top_k, config.eval.image_to_text_top_k
    for name, value in (("rerank_top_k", k), ("image_to_text_top_k", k_images)):
        if value < 0:
            raise UsageError(f"config.eval.{name} is {value}, expected 0 (stage one only) or more")
    params = jax.device_put(params, param_shardings(mesh, params))
    progress = None if quiet else progress_bar
    rerank_batch = config.eval.rerank_batch
    start = time.monotonic()
    gallery, queries = _embed(model, params, split, config, mesh, quiet)
    encoded = time.monotonic() - start
    k = min(k, len(gallery.pids))
    scored = score(model, params, gallery, queries, k, mesh, rerank_batch, progress)
    results = {
        "dataset": config.data.name,
        "dataset_version": split.dataset,
        "split": split.name,
        "caption_protocol": config.data.captions,
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
    if workdir is None:
        return results | (notes or {})
    start = time.monotonic()
    results["image_to_text"] = score_image_to_text(
        model, params, gallery, queries, k_images, mesh, rerank_batch, progress
    )
    results["seconds"]["image_to_text"] = round(time.monotonic() - start, 2)
    results |= notes or {}
    if jax.process_index() == 0:
        write_results(workdir, results)
        if config.eval.save_queries:
            write_queries(workdir, split, scored)
        save_picture(pathlib.Path(workdir) / "retrieval.png", draw_examples(split, scored, results))
    return results


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


def _embed(model, params, split, config, mesh, quiet) -> tuple[Gallery, Queries]:
    """Encodes a split; every host reads its share of each batch, and gets what all encoded."""
    batch, share = config.eval.batch_size, process_batch_slice(mesh)
    encoded = []
    for encode, batches, size, text in (
        (encode_lib.embed_gallery, batches_lib.gallery_batches, split.num_images, "images"),
        (encode_lib.embed_queries, batches_lib.query_batches, split.num_captions, "captions"),
    ):
        read = batches(split, config, batch, *share)
        if not quiet:
            read = progress_bar(read, -(-size // batch), f"encode {text}")
        encoded.append(encode(model, params, read, size, mesh))
    return encoded[0], encoded[1]
