"""Retrieval's first stage: the most similar images of every query, by the cosine of embeddings.

In the second, `rerank`, the decoder scores the top k images of every query. Nothing here knows
which side is text: the searched side is called gallery.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cada_jax.common.shapes import AnyArray, Array, Float32, Int32
from cada_jax.distributed.batch import put_rows, rows_to_host
from cada_jax.distributed.partitioning import replicated

QUERY_BLOCK = 1024  # queries compared with the whole gallery at once


class Retrieved(NamedTuple):
    """The k nearest images of every query, nearest first by similarity.

    indices: int32 [Q,k] into the gallery; similarity: float32 [Q,k], cosine in [-1,1];
    match_logit: float32 [Q,k], the decoder's logit of "match" (no softmax).
    """

    indices: Int32[np.ndarray, "Q k"]
    similarity: Float32[np.ndarray, "Q k"]
    match_logit: Float32[np.ndarray, "Q k"]

    @property
    def score(self) -> Float32[np.ndarray, "Q k"]:
        """What the top k are re-ranked by: match logit + similarity, float32 [Q,k]."""
        return self.match_logit + self.similarity


def global_topk(
    queries: Float32[np.ndarray, "Q E"],
    gallery: Float32[np.ndarray, "G E"],
    k: int,
    mesh: Mesh,
    block: int = QUERY_BLOCK,
) -> tuple[Int32[np.ndarray, "Q {k}"], Float32[np.ndarray, "Q {k}"]]:
    """Finds the k most similar images of every query; the full matrix never leaves the device.

    Args:
      queries: float32 [Q,E] of length 1.
      gallery: float32 [G,E] of length 1.
      k: from 0 to G.
      mesh: the queries are split over its data axes.
      block: queries compared at once.

    Returns:
      (indices int32 [Q,k], similarity float32 [Q,k]), most similar first, the smaller index
      first among equals.

    Raises:
      ValueError: k is not in [0, G].
    """
    if not 0 <= k <= len(gallery):
        raise ValueError(f"k = {k} images were asked of a gallery of {len(gallery)}.")
    indices = np.empty((len(queries), k), np.int32)
    similarity = np.empty((len(queries), k), np.float32)
    for rows, matrix in _compare(queries, gallery, mesh, block):
        count = rows.stop - rows.start
        for out, value in zip((similarity, indices), _top_k(matrix, k), strict=True):
            out[rows] = rows_to_host(value)[:count]
    return indices, similarity


def similarity_blocks(
    queries: Float32[np.ndarray, "Q E"],
    gallery: Float32[np.ndarray, "G E"],
    mesh: Mesh,
    block: int = QUERY_BLOCK,
) -> Iterator[tuple[slice, Float32[np.ndarray, "_ G"]]]:
    """Yields (rows, similarity float32 [rows,G]) for blocks of queries, in order.

    They are the numbers that `global_topk` chose by; arguments as there.
    """
    for rows, matrix in _compare(queries, gallery, mesh, block):
        yield rows, rows_to_host(matrix)[: rows.stop - rows.start]


def _compare(
    queries: Float32[np.ndarray, "Q E"], gallery: Float32[np.ndarray, "G E"], mesh: Mesh, block: int
) -> Iterator[tuple[slice, Float32[Array, "_ G"]]]:
    """Yields (rows, similarity [>= rows,G] on the device, padded) per block of queries."""
    block = max(1, min(block, len(queries)))
    searched = jax.make_array_from_callback(
        gallery.shape, replicated(mesh), lambda index: gallery[index]
    )
    for begin in range(0, len(queries), block):
        part = queries[begin : begin + block]
        rows = slice(begin, begin + len(part))
        padding = np.zeros((block - len(part), part.shape[1]), part.dtype)
        yield rows, _similarity(put_rows(np.concatenate([part, padding]), mesh), searched)


@jax.jit
def _similarity(
    queries: Float32[AnyArray, "b E"], gallery: Float32[AnyArray, "G E"]
) -> Float32[Array, "b G"]:
    # "highest": accelerators would otherwise round the factors to bfloat16 or TF32.
    return jnp.matmul(queries, gallery.T, precision="highest")


@functools.partial(jax.jit, static_argnames="k")
def _top_k(
    similarity: Float32[AnyArray, "b G"], k: int
) -> tuple[Float32[Array, "b {k}"], Int32[Array, "b {k}"]]:
    values, indices = jax.lax.top_k(similarity, k)
    return values, indices
