"""Retrieval's first stage, shared by evaluation and search: the cosine of projected embeddings.

In the second, `reranking`, the decoder scores the top k images of every query. Everything on
the device has fixed shapes: the last batch is padded and the padding dropped again, so each
function compiles once. Image tokens stay on the host: 20,000 images of the full model are 12 GB in
float32.

Q queries, G gallery images, k re-ranked images per query, L token ids, S image tokens, E
embedding width.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from cada_jax.distributed.batch import to_global
from cada_jax.distributed.mesh import batch_divisor, process_batch_slice
from cada_jax.distributed.partitioning import data_sharding
from cada_jax.models.layers import l2_normalize
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.text.padding import READ_STEP, rounded_lengths


class Gallery(NamedTuple):
    """Encoded images, on the host.

    embeddings: float32 [G,E] of length 1; tokens: [G,S,Dv] in the model's dtype; pids: int [G].
    """

    embeddings: np.ndarray
    tokens: np.ndarray
    pids: np.ndarray


class Queries(NamedTuple):
    """Encoded texts, on the host.

    embeddings: float32 [Q,E] of length 1; token_ids: int32 [Q,L]; pids: int [Q].
    """

    embeddings: np.ndarray
    token_ids: np.ndarray
    pids: np.ndarray


def embed_gallery(
    model: nn.Module, params: Any, batches: Iterable[dict], size: int, mesh: Mesh
) -> Gallery:
    """Encodes images batch by batch.

    Args:
      model: from `models.cada.from_config`.
      params: its parameters, on `mesh`.
      batches: dicts of image uint8 [b,H,W,3], pid int [b], valid bool [b] (False: padding).
        Every host passes its share of the rows, see `sharding.process_batch_slice`.
      size: number of valid rows in all batches.
      mesh: from `sharding.make_mesh`.

    Raises:
      ValueError: the batches hold more or fewer than `size` valid rows, or none.
    """

    def launch(batch):
        rows = _put_share(batch, mesh)
        return *_encode_images(model, params, rows["image"]), rows["pid"], rows["valid"]

    def valid_rows():
        for _, (*encoded, valid) in pipelined(batches, launch):
            yield [x[valid] for x in encoded]

    return Gallery(*_collect(valid_rows(), size, "gallery"))


def embed_queries(
    model: nn.Module, params: Any, batches: Iterable[dict], size: int, mesh: Mesh
) -> Queries:
    """Encodes texts batch by batch: dicts of token_ids int32 [b,L], pid [b], valid bool [b].

    Arguments and errors otherwise as in `embed_gallery`.
    """

    def launch(batch):
        rows = _put_share(batch, mesh)
        token_ids = rows["token_ids"]
        if jax.process_count() == 1:  # else none knows how long the captions of the others are
            pad = model.config.tokens.pad
            longest = rounded_lengths(batch["token_ids"], pad, READ_STEP).max()
            token_ids = token_ids[:, :longest]
        embeddings = _encode_texts(model, params, token_ids)
        return *embeddings, rows["token_ids"], rows["pid"], rows["valid"]

    def valid_rows():
        for _, (*encoded, valid) in pipelined(batches, launch):
            yield [x[valid] for x in encoded]

    return Queries(*_collect(valid_rows(), size, "query"))


@functools.partial(jax.jit, static_argnames="model")
def _encode_images(model, params, images):
    apply = functools.partial(model.apply, {"params": params})
    tokens = apply(normalize_pixels(images), method="encode_image")
    return l2_normalize(apply(tokens, method="project_image")), tokens


@functools.partial(jax.jit, static_argnames="model")
def _encode_texts(model, params, token_ids):
    apply = functools.partial(model.apply, {"params": params})
    return (l2_normalize(apply(apply(token_ids, method="encode_text"), method="project_text")),)


def put_rows(x: np.ndarray, mesh: Mesh) -> jax.Array:
    """Splits rows that every host holds over the mesh, padded with zeros to divide evenly."""
    x = _pad_rows(x, batch_divisor(mesh))
    # Not device_put: among several hosts that first compares what all of them hold.
    return jax.make_array_from_callback(x.shape, data_sharding(mesh), lambda index: x[index])


def _put_share(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Joins every host's rows of a batch over the mesh, padded as by `put_rows`."""
    _, hosts = process_batch_slice(mesh)
    return to_global(
        mesh, {name: _pad_rows(x, batch_divisor(mesh) // hosts) for name, x in batch.items()}
    )


def _pad_rows(x: np.ndarray, multiple: int) -> np.ndarray:
    missing = -len(x) % multiple
    return np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x


def _to_host(x: jax.Array) -> np.ndarray:
    if x.is_fully_addressable:
        return np.asarray(x)
    return multihost_utils.process_allgather(x, tiled=True)


def pipelined(items: Iterable, launch: Callable) -> Iterator[tuple[Any, tuple]]:
    """Yields (item, launch(item) on the host), one item late: the device never waits."""
    waiting = None
    for item in items:
        started = item, launch(item)
        if waiting is not None:
            yield waiting[0], tuple(_to_host(x) for x in waiting[1])
        waiting = started
    if waiting is not None:
        yield waiting[0], tuple(_to_host(x) for x in waiting[1])


def _collect(rows: Iterable[tuple], size: int, what: str) -> list[np.ndarray]:
    """Writes tuples of arrays into arrays of `size` rows, allocated once."""
    arrays, filled = None, 0
    for parts in rows:
        if arrays is None:
            arrays = [np.empty((size, *x.shape[1:]), x.dtype) for x in parts]
        count = len(parts[0])
        if filled + count <= size:
            for array, part in zip(arrays, parts, strict=True):
                array[filled : filled + count] = part
        filled += count
    if arrays is None or filled != size:
        raise ValueError(
            f"The {what} batches hold {filled} valid rows, {size} were announced; "
            "the split and its batches do not belong together."
        )
    return arrays
