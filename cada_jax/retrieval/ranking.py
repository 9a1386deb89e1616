"""Both stages on what is already encoded, in either direction, as metrics in percent."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from cada_jax.common.console import Progress
from cada_jax.common.errors import DivergedError, UsageError
from cada_jax.common.shapes import Float, Float32, Int, Int32
from cada_jax.network import Network
from cada_jax.retrieval import rerank, search
from cada_jax.retrieval.encode import Queries
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.metrics import RankMetrics
from cada_jax.retrieval.search import Retrieved

TEXT_TO_IMAGE, IMAGE_TO_TEXT = "text_to_image", "image_to_text"
# The order of this many best images by the match logit alone is reported as a diagnostic.
MATCH_ONLY_TOP = 16
SHOWN_HITS = 10  # of each query, in the picture and in queries.jsonl


class Ranking(NamedTuple):
    """What the two stages found for every query. Either side may be the one that searches.

    metrics: as in the results file; retrieved: the top k; shown, shown_similarity: [Q,max(k,10)],
    the nearest by similarity alone; first_global, first_reranked: int [Q], rank (0 is the best) of
    each query's first right one in either order, -1 without one; average_precision: float [Q] in
    [0,1] after re-ranking, NaN without one; excluded: queries without a right one; seconds: of
    either stage.
    """

    metrics: dict[str, Any]
    retrieved: Retrieved
    shown: Int32[np.ndarray, "Q n"]
    shown_similarity: Float32[np.ndarray, "Q n"]
    first_global: Int[np.ndarray, "Q"]
    first_reranked: Int[np.ndarray, "Q"]
    average_precision: Float[np.ndarray, "Q"]
    excluded: int
    seconds: dict[str, float]

    def best(self, query: int, count: int = SHOWN_HITS) -> list[tuple[int, float, float | None]]:
        """`best_places` of one query."""
        logits = self.retrieved.match_logit[query]
        return best_places(self.shown[query], self.shown_similarity[query], logits, count)


def best_places(
    nearest: Int[np.ndarray, "n"],
    similarity: Float[np.ndarray, "n"],
    logits: Float[np.ndarray, "k"],
    count: int,
) -> list[tuple[int, float, float | None]]:
    """The first `count` of one query's final ranking: (index, similarity, match logit or None).

    Args:
      nearest: int [n], the nearest ones by similarity, nearest first.
      logits: float [k], the match logits of the first k of them.
      count: at most n.
    """
    k = len(logits)
    places = np.argsort(-(logits + similarity[:k]), kind="stable").tolist()
    places += range(k, len(nearest))
    return [
        (int(nearest[p]), float(similarity[p]), float(logits[p]) if p < k else None)
        for p in places[:count]
    ]


def rank(
    network: Network,
    queries: Queries,
    gallery: EncodedImages,
    k: int,
    direction: str = TEXT_TO_IMAGE,
    progress: Progress | None = None,
    match: Callable[..., Float32[np.ndarray, "P"]] = rerank.match_pairs,
) -> Ranking:
    """Both stages on what is already encoded.

    Args:
      k: nearest ones of each query that the decoder scores; at most all.
      direction: "text_to_image", every text searches the images; "image_to_text", every image
        searches the texts, and a text of its person is right.
      match: (network, pairs, progress=...) -> logits, as `rerank.match_pairs`.

    Raises:
      UsageError: no text's person is in the gallery.
      DivergedError: an embedding or a logit is not a finite number.
    """
    _check_finite("image embeddings", gallery.embeddings)
    _check_finite("text embeddings", queries.embeddings)
    if not np.isin(queries.pids, gallery.pids).any():
        raise UsageError(
            f"None of the {len(queries.pids)} captions is of a person in the gallery of "
            f"{len(gallery.pids)} images, so nothing can be scored: check the split's pids"
        )
    by_text = direction == TEXT_TO_IMAGE
    searching, searched = (queries, gallery) if by_text else (gallery, queries)
    k = min(k, len(searched.pids))
    start = time.monotonic()
    most = min(max(k, SHOWN_HITS), len(searched.pids))
    embeddings = searching.embeddings, searched.embeddings
    shown, shown_similarity = search.global_topk(*embeddings, most, network.mesh)
    own = np.repeat(np.arange(len(searching.pids)), k)
    found = shown[:, :k].reshape(-1)
    text, image = (own, found) if by_text else (found, own)
    pairs = rerank.Pairs(queries.token_ids, gallery.tokens, text, image)
    logits = match(network, pairs, progress=progress).reshape(len(searching.pids), k)
    _check_finite("match logits", logits)
    retrieved = Retrieved(shown[:, :k], shown_similarity[:, :k], logits)
    ranked = time.monotonic()
    scores = _score(network, searching, searched, retrieved)
    return Ranking(
        **scores,
        retrieved=retrieved,
        shown=shown,
        shown_similarity=shown_similarity,
        seconds={
            "rank": round(ranked - start, 2),
            "metrics": round(time.monotonic() - ranked, 2),
        },
    )


def _score(network: Network, searching, searched, retrieved: Retrieved) -> dict[str, Any]:
    """Metrics of the three orders: by similarity, re-ranked, and by the match logit alone."""
    indices, logits = retrieved.indices, retrieved.match_logit
    by_similarity, reranked, match_only = RankMetrics(), RankMetrics(), RankMetrics()
    few = min(indices.shape[1], MATCH_ONLY_TOP)
    embeddings = searching.embeddings, searched.embeddings
    for rows, block in search.similarity_blocks(*embeddings, network.mesh):
        right = searching.pids[rows, None] == searched.pids[None]
        by_similarity.add(block, right)
        reranked.add(block, right, indices[rows], retrieved.score[rows])
        match_only.add(block, right, indices[rows, :few], logits[rows, :few])
    hit = (searching.pids[:, None] == searched.pids[indices]).any(axis=1)
    counted = by_similarity.first_rank >= 0
    return {
        "metrics": {
            "global": by_similarity.result(),
            "reranked": reranked.result(),
            "match_only": {"top_k": few, **match_only.result()},
            "right_in_top_k": 100 * float(hit[counted].mean()),
        },
        "first_global": by_similarity.first_rank,
        "first_reranked": reranked.first_rank,
        "average_precision": reranked.average_precision,
        "excluded": by_similarity.excluded,
    }


def _check_finite(what: str, values: Float[np.ndarray, "*axes"]) -> None:
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise DivergedError(
            f"{bad} of {values.size} {what} are not finite numbers, so images cannot be ranked: "
            "the parameters hold NaN or overflow. Score another checkpoint, or train again with a "
            "lower config.optimizer.learning_rate."
        )
