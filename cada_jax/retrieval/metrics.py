"""Retrieval metrics in pure NumPy: R@1, R@5, R@10, mAP and mINP, in percent.

The order that is scored is (in the top k, re-rank score), then similarity: images of a query's
top k come first, by their score, and all others follow by their similarity. It is never
written as one number with an offset, which would cost float32 digits. Among equal scores a
wrong image ranks before a right one, so a constant score earns nothing.
"""

import numpy as np

from cada_jax.common.shapes import Bool, Float, Int

RECALL_AT = (1, 5, 10)


class RankMetrics:
    """Collects blocks of queries, so that queries x gallery is never held at once.

    Only the ranks of the right images matter to the metrics, so those are counted (one sort of
    plain numbers per query) and the gallery itself is never put in order.

    A query without any right image in the gallery has no defined average precision: it is left
    out of every mean and counted in `excluded`.
    """

    def __init__(self):
        self.excluded = 0
        self._first: list[np.ndarray] = []
        self._precision: list[np.ndarray] = []
        self._inverse_penalty: list[np.ndarray] = []

    def add(
        self,
        similarity: Float[np.ndarray, "Q G"],
        right: Bool[np.ndarray, "Q G"],
        top: Int[np.ndarray, "Q k"] | None = None,
        score: Float[np.ndarray, "Q k"] | None = None,
    ) -> None:
        """Adds one block of queries.

        Args:
          similarity: float [Q, G], finite, of any scale, larger is nearer.
          right: bool [Q, G], True where the image shows the query's person.
          top: int [Q, k], distinct gallery indices of each query's re-ranked images, or None.
          score: float [Q, k], finite, the re-rank scores in the order of `top`; given with it.

        Raises:
          ValueError: a repeated index.
        """
        similarity, right = np.asarray(similarity), np.asarray(right, bool)
        outside = np.ones_like(right)
        if top is None:
            top, score = np.zeros((len(right), 0), int), np.zeros((len(right), 0))
        else:
            np.put_along_axis(outside, top, False, axis=1)
            if outside.sum() != right.size - top.size:
                raise ValueError("top names an image twice for one query; give distinct indices.")
        inner = _ranks_of_right(np.asarray(score), np.take_along_axis(right, top, axis=1))
        outer = _ranks_of_right(similarity, right & outside, outside)
        query = np.concatenate([inner[0], outer[0]])
        rank = np.concatenate([inner[1], outer[1] + top.shape[1]])
        self._add_ranks(query, rank, len(right))

    def _add_ranks(
        self, query: Int[np.ndarray, "M"], rank: Int[np.ndarray, "M"], num_queries: int
    ) -> None:
        """Adds right images given as (query [M], rank [M], 0 is the best) pairs."""
        order = np.lexsort((rank, query))
        query, rank = query[order], rank[order]
        count = np.bincount(query, minlength=num_queries)
        start = np.cumsum(count) - count
        seen = np.arange(len(rank)) - start[query]  # right images of the query ranked before
        precision = np.bincount(query, (seen + 1) / (rank + 1), minlength=num_queries)
        has = count > 0
        first = np.full(num_queries, -1)
        first[has] = rank[start[has]]
        last = rank[start[has] + count[has] - 1]
        self.excluded += int(num_queries - has.sum())
        self._first.append(first)
        self._precision.append(precision[has] / count[has])
        self._inverse_penalty.append(count[has] / (last + 1))

    @property
    def first_rank(self) -> Int[np.ndarray, "Q"]:
        """Ranks int [Q] (0 is the best) of each query's first right image, -1 without one."""
        return np.concatenate(self._first) if self._first else np.zeros(0, int)

    @property
    def average_precision(self) -> Float[np.ndarray, "Q"]:
        """Average precision of each query over the whole gallery, float [Q], NaN without one."""
        values = np.full(len(self.first_rank), np.nan)
        if len(values):
            values[self.first_rank >= 0] = np.concatenate(self._precision)
        return values

    def result(self) -> dict[str, float]:
        """Returns {"R1", "R5", "R10", "mAP", "mINP"} in percent.

        mAP is the mean over queries of the average precision over the whole gallery; mINP the
        mean of (right images) / (rank of the last right image), from Ye et al., "Deep Learning
        for Person Re-identification", arXiv 2001.04193.

        Raises:
          ValueError: no query has a right image in the gallery.
        """
        first = self.first_rank
        first = first[first >= 0]
        if not len(first):
            raise ValueError(
                f"None of the {self.excluded} queries has an image of its person in the gallery, "
                "so no metric is defined; check that queries and gallery are of the same split."
            )
        result = {f"R{k}": 100 * float(np.mean(first < k)) for k in RECALL_AT}
        result["mAP"] = 100 * float(np.mean(np.concatenate(self._precision)))
        result["mINP"] = 100 * float(np.mean(np.concatenate(self._inverse_penalty)))
        return result


def rank_metrics(
    similarity: Float[np.ndarray, "Q G"],
    right: Bool[np.ndarray, "Q G"],
    top: Int[np.ndarray, "Q k"] | None = None,
    score: Float[np.ndarray, "Q k"] | None = None,
) -> dict[str, float]:
    """Metrics of one matrix that fits into memory; see `RankMetrics.add` and `.result`."""
    metrics = RankMetrics()
    metrics.add(similarity, right, top, score)
    return metrics.result()


def _ranks_of_right(
    score: Float[np.ndarray, "Q G"],
    right: Bool[np.ndarray, "Q G"],
    counted: Bool[np.ndarray, "Q G"] | None = None,
) -> tuple[Int[np.ndarray, "M"], Int[np.ndarray, "M"]]:
    """Ranks of the right images by falling score, wrong images first among equals.

    Args:
      score: float [Q, G], finite.
      right: bool [Q, G].
      counted: bool [Q, G] or None, the images that take part; None: all.

    Returns:
      (query [M], rank [M]): one entry per right image, 0 is the best rank.
    """
    wrong = ~right if counted is None else counted & ~right
    # The k-th best right image ranks after k right ones and every wrong one scoring as much.
    wrong_scores = np.where(wrong, score, -np.inf)
    wrong_scores.sort(axis=1)
    query, image = np.nonzero(right)
    value = score[query, image]
    order = np.lexsort((-value, query))
    query, value = query[order], value[order]
    bounds = np.searchsorted(query, np.arange(len(right) + 1))
    rank = np.arange(len(query)) - bounds[query]
    for row, (begin, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        if begin < end:
            below = np.searchsorted(wrong_scores[row], value[begin:end], side="left")
            rank[begin:end] += score.shape[1] - below
    return query, rank
