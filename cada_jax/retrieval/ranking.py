"""Both stages and both directions on what is already encoded, as metrics in percent."""

import time
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh

from cada_jax.common.errors import DivergedError, UsageError
from cada_jax.retrieval import rerank, search
from cada_jax.retrieval.encode import Gallery, Queries
from cada_jax.retrieval.metrics import RankMetrics
from cada_jax.retrieval.rerank import Progress
from cada_jax.retrieval.search import Retrieved

# The order of this many best images by the match logit alone is reported as a diagnostic.
MATCH_ONLY_TOP = 16
SHOWN_HITS = 10  # of each query, in the picture and in queries.jsonl


class Scored(NamedTuple):
    """What the two stages found.

    metrics: as in the results file; retrieved: the top k; shown, shown_similarity: [Q,max(k,10)],
    the nearest images by similarity alone; first_global, first_reranked: int [Q], rank (0 is the
    best) of each query's first right image in either order, -1 without one; average_precision:
    float [Q] in [0,1] after re-ranking, NaN without one; excluded: queries without a right image;
    seconds: of either stage.
    """

    metrics: dict[str, Any]
    retrieved: Retrieved
    shown: np.ndarray
    shown_similarity: np.ndarray
    first_global: np.ndarray
    first_reranked: np.ndarray
    average_precision: np.ndarray
    excluded: int
    seconds: dict[str, float]

    def best(self, query: int, count: int = SHOWN_HITS) -> list[tuple[int, float, float | None]]:
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
      rerank_batch: see `batch` of `reranking.score_pairs`.
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
    shown, shown_similarity = search.global_topk(
        queries.embeddings, gallery.embeddings, min(max(k, SHOWN_HITS), len(gallery.pids)), mesh
    )
    indices, similarity = shown[:, :k], shown_similarity[:, :k]
    logits = rerank.rerank(
        model, params, queries.token_ids, gallery.tokens, indices, mesh, rerank_batch, progress
    )
    _check_finite("match logits", logits)
    retrieved = Retrieved(indices, similarity, logits)
    ranked = time.monotonic()
    by_similarity, reranked, match_only = RankMetrics(), RankMetrics(), RankMetrics()
    few = min(k, MATCH_ONLY_TOP)
    blocks = search.similarity_blocks(queries.embeddings, gallery.embeddings, mesh)
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
        average_precision=reranked.average_precision,
        excluded=by_similarity.excluded,
        seconds=seconds,
    )


def score_image_to_text(
    model: nn.Module,
    params: Any,
    gallery: Gallery,
    queries: Queries,
    k: int,
    mesh: Mesh,
    rerank_batch: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The other direction: every image searches the captions; a caption of its person is right.

    Args:
      model: from `models.cada.from_config`.
      params: its parameters, on `mesh`.
      gallery: from `retrieval.embed_gallery`; each image is a query here.
      queries: from `retrieval.embed_queries`; what is searched here.
      k: captions of each image that the decoder scores, 0 for the first stage alone.
      mesh: from `sharding.make_mesh`.
      rerank_batch: see `batch` of `reranking.score_pairs`.
      progress: wraps the long loops.

    Returns:
      {"rerank_top_k", "global", "reranked", "queries_left_out"} as in the results file.
    """
    k = min(k, len(queries.pids))
    indices, similarity = search.global_topk(gallery.embeddings, queries.embeddings, k, mesh)
    logits = rerank.score_pairs(
        model,
        params,
        queries.token_ids,
        gallery.tokens,
        indices.reshape(-1),
        np.repeat(np.arange(len(gallery.pids)), k),
        mesh,
        rerank_batch,
        progress,
    ).reshape(indices.shape)
    _check_finite("match logits", logits)
    found = Retrieved(indices, similarity, logits)
    by_similarity, reranked = RankMetrics(), RankMetrics()
    blocks = search.similarity_blocks(gallery.embeddings, queries.embeddings, mesh)
    for rows, block in blocks:
        right = gallery.pids[rows, None] == queries.pids[None]
        by_similarity.add(block, right)
        reranked.add(block, right, indices[rows], found.score[rows])
    return {
        "rerank_top_k": k,
        "global": by_similarity.result(),
        "reranked": reranked.result(),
        "queries_left_out": by_similarity.excluded,
    }


def _check_finite(what: str, values: np.ndarray) -> None:
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise DivergedError(
            f"{bad} of {values.size} {what} are not finite numbers, so images cannot be ranked: "
            "the parameters hold NaN or overflow. Score another checkpoint, or train again with a "
            "lower config.optimizer.learning_rate."
        )
