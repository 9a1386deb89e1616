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

from cada_jax.common.shapes import AnyArray, Array, Bool, Float32, Int, Int32
from cada_jax.distributed.batch import put_rows, rows_to_host
from cada_jax.distributed.partitioning import replicated

QUERY_BLOCK = 1024  # queries compared with the whole gallery at once
MOST_COMPARED = 2**26  # pairs of a query and an image compared at once: 256 MiB of similarities
GROWTH = 1.25  # a full gallery gets so much more room, so that few programs are compiled


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


class ExactSearch:
    """The embeddings of a gallery on the devices; the full matrix never leaves them.

    Evaluation compares a split's images once. A gallery keeps this for every query, and puts in
    what is new.

    Args:
      embeddings: float32 [G,E] of length 1.
      mesh: holds them whole on every device; queries are split over its data axes.
    """

    def __init__(self, embeddings: Float32[np.ndarray, "G E"], mesh: Mesh):
        self._mesh = mesh
        self._array = jax.make_array_from_callback(
            embeddings.shape, replicated(mesh), lambda index: embeddings[index]
        )

    def __len__(self) -> int:
        return len(self._array)

    def put(self, rows: Int[np.ndarray, "n"], embeddings: Float32[np.ndarray, "n E"]) -> None:
        """Replaces rows; those from G on are new, and there is more room than asked for then.

        Args:
          rows: int [n], different ones.
          embeddings: float32 [n,E] of length 1.
        """
        if not len(rows):
            return
        size = len(self)
        while size <= rows.max():
            size = max(int(size * GROWTH), 64)
        count = power_of_four(len(rows))
        filled = np.full(count, size, np.int32)
        filled[: len(rows)] = rows  # the others are beyond the end, and left out
        padding = np.zeros((count - len(rows), embeddings.shape[1]), np.float32)
        new = np.concatenate([embeddings, padding])
        with jax.set_mesh(self._mesh):
            if size > len(self):
                self._array = _grow(self._array, size)
            self._array = _put(self._array, filled, new)

    def blocks(
        self, queries: Float32[np.ndarray, "Q E"], block: int = QUERY_BLOCK
    ) -> Iterator[tuple[slice, Float32[Array, "_ G"]]]:
        """Yields (rows, similarity [>= rows,G] on the device, padded) per block of queries."""
        most = max(1, MOST_COMPARED // max(1, len(self)))
        block = max(1, min(block, len(queries), most))
        for begin in range(0, len(queries), block):
            part = queries[begin : begin + block]
            rows = slice(begin, begin + len(part))
            padding = np.zeros((block - len(part), part.shape[1]), part.dtype)
            placed = put_rows(np.concatenate([part, padding]), self._mesh)
            yield rows, _similarity(placed, self._array)

    def nearest(
        self,
        queries: Float32[np.ndarray, "Q E"],
        k: int,
        admitted: Bool[np.ndarray, "G"] | None = None,
        block: int = QUERY_BLOCK,
    ) -> tuple[Int32[np.ndarray, "Q {k}"], Float32[np.ndarray, "Q {k}"]]:
        """The k most similar images of every query, as `global_topk` gives them.

        Args:
          queries: float32 [Q,E] of length 1.
          k: from 0 to G.
          admitted: bool [G], the rows that are looked at, None for all. Where there are fewer than
            k, the rest has a similarity of minus infinity.
          block: queries compared at once.
        """
        if not 0 <= k <= len(self):
            raise ValueError(f"k = {k} images were asked of a gallery of {len(self)}.")
        indices = np.empty((len(queries), k), np.int32)
        similarity = np.empty((len(queries), k), np.float32)
        for rows, matrix in self.blocks(queries, block):
            count = rows.stop - rows.start
            if admitted is not None:
                matrix = _masked(matrix, admitted)
            for out, value in zip((similarity, indices), _top_k(matrix, k), strict=True):
                out[rows] = rows_to_host(value)[:count]
        return indices, similarity


def global_topk(
    queries: Float32[np.ndarray, "Q E"],
    gallery: Float32[np.ndarray, "G E"],
    k: int,
    mesh: Mesh,
    block: int = QUERY_BLOCK,
) -> tuple[Int32[np.ndarray, "Q {k}"], Float32[np.ndarray, "Q {k}"]]:
    """Finds the k most similar images of every query.

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
    return ExactSearch(gallery, mesh).nearest(queries, k, block=block)


def similarity_blocks(
    queries: Float32[np.ndarray, "Q E"],
    gallery: Float32[np.ndarray, "G E"],
    mesh: Mesh,
    block: int = QUERY_BLOCK,
) -> Iterator[tuple[slice, Float32[np.ndarray, "_ G"]]]:
    """Yields (rows, similarity float32 [rows,G]) for blocks of queries, in order.

    They are the numbers that `global_topk` chose by; arguments as there.
    """
    for rows, matrix in ExactSearch(gallery, mesh).blocks(queries, block):
        yield rows, rows_to_host(matrix)[: rows.stop - rows.start]


def power_of_four(number: int) -> int:
    """The least power of four that is at least `number` >= 1: sizes so few programs are for."""
    return 4 ** (-(-(number - 1).bit_length() // 2))


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


@jax.jit
def _masked(
    similarity: Float32[AnyArray, "b G"], admitted: Bool[AnyArray, "G"]
) -> Float32[Array, "b G"]:
    return jnp.where(admitted, similarity, -jnp.inf)


@functools.partial(jax.jit, static_argnames="size")
def _grow(array: Float32[AnyArray, "G E"], size: int) -> Float32[Array, "{size} E"]:
    return jnp.pad(array, ((0, size - len(array)), (0, 0)))


@functools.partial(jax.jit, donate_argnums=0)
def _put(
    array: Float32[Array, "G E"],
    rows: Int32[AnyArray, "n"],
    embeddings: Float32[AnyArray, "n E"],
) -> Float32[Array, "G E"]:
    return array.at[rows].set(embeddings, mode="drop")
