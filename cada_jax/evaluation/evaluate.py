"""Scores one split in two stages; the same function in training and alone. Writes nothing."""

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from cada_jax.common.console import Progress, progress_bar
from cada_jax.data.batches import gallery_batches, query_batches
from cada_jax.data.split import Split
from cada_jax.distributed.mesh import process_batch_slice
from cada_jax.network import Network
from cada_jax.retrieval.encode import Queries, encode_gallery, encode_queries
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.mirror import Match, match_both, mirrored
from cada_jax.retrieval.ranking import IMAGE_TO_TEXT, TEXT_TO_IMAGE, Ranking, rank
from cada_jax.retrieval.rerank import match_pairs


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What scoring a split gave.

    Attributes:
      results: in percent, ready for JSON, see `evaluate_split`.
      ranking: of every caption; None where there are figures alone.
    """

    results: dict[str, Any]
    ranking: Ranking | None = None


def evaluate_split(
    network: Network,
    split: Split,
    *,
    step: int | None = None,
    selected_on: str | None = None,
    image_to_text: bool = False,
    quiet: bool = False,
) -> Evaluation:
    """Scores parameters on all captions and images of a split.

    Args:
      network: reads data and eval of its config.
      step: of training, only to be noted in the results.
      selected_on: the split that chose these parameters, only to be noted.
      image_to_text: scores that direction too.

    Returns:
      Results with "global" by similarity alone, "reranked" with the decoder's match logit added
      inside the top k (equal to "global" for k = 0), "match_only" with the top min(k, 16) in the
      order of the logit alone, "right_in_top_k" the share of queries that re-ranking can bring a
      right image to the front for, and "image_to_text" if asked for; and the ranking. "mirror" is
      there where logits are means over mirror images too.

    Raises:
      UsageError: no caption's person is in the gallery.
      DivergedError: an embedding or a logit is not a finite number.
    """
    config, progress = network.config, None if quiet else progress_bar
    start = time.monotonic()
    gallery, queries, match = _encode(network, split, progress)
    encoded = time.monotonic() - start
    top = config.eval.rerank_top_k
    ranking = rank(network, queries, gallery, top, TEXT_TO_IMAGE, progress, match)
    results: dict[str, Any] = {
        "dataset": config.data.name,
        "dataset_version": split.dataset,
        "split": split.name,
        "caption_protocol": config.data.captions,
        "num_queries": len(queries.pids),
        "num_gallery": len(gallery.pids),
        "rerank_top_k": ranking.retrieved.indices.shape[1],
        "selected_on": selected_on,
        "step": step,
        "parameters": sum(int(np.prod(x.shape)) for x in jax.tree.leaves(network.params)),
        **({"mirror": True} if config.eval.mirror else {}),
        **ranking.metrics,
        "queries_left_out": ranking.excluded,
        "seconds": {"encode": round(encoded, 2), **ranking.seconds},
    }
    if image_to_text:
        start = time.monotonic()
        encodings = gallery, queries, match
        results["image_to_text"] = _other_direction(network, encodings, progress)
        results["seconds"]["image_to_text"] = round(time.monotonic() - start, 2)
    return Evaluation(results, ranking)


def _other_direction(
    network: Network, encodings: tuple[EncodedImages, Queries, Match], progress: Progress | None
) -> dict[str, Any]:
    gallery, queries, match = encodings
    k = network.config.eval.image_to_text_top_k
    found = rank(network, queries, gallery, k, IMAGE_TO_TEXT, progress, match)
    return {
        "rerank_top_k": found.retrieved.indices.shape[1],
        "global": found.metrics["global"],
        "reranked": found.metrics["reranked"],
        "queries_left_out": found.excluded,
    }


def _encode(
    network: Network, split: Split, progress: Progress | None
) -> tuple[EncodedImages, Queries, Match]:
    """Encodes a split; every host reads its share of each batch, and gets what all encoded.

    The third is what scores pairs of the two.
    """
    batch, share = network.config.eval.batch_size, process_batch_slice(network.mesh)

    def read(batches: Callable[..., Iterable[dict]], size: int, text: str) -> Iterable[dict]:
        rows = batches(split, network.config, batch, *share)
        return rows if progress is None else progress(rows, -(-size // batch), f"encode {text}")

    count, match = split.num_images, match_pairs
    gallery = encode_gallery(network, read(gallery_batches, count, "images"), count)
    if network.config.eval.mirror:
        images = mirrored(read(gallery_batches, count, "mirror images"))
        match = match_both(encode_gallery(network, images, count).tokens)
    captions = read(query_batches, split.num_captions, "captions")
    return gallery, encode_queries(network, captions, split.num_captions), match
