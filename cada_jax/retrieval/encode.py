"""Images and texts to embeddings and tokens, batch by batch.

Everything on the device has fixed shapes: the last batch is padded and the padding dropped again,
so each function compiles once. Image tokens stay on the host: 20,000 images of the full model are
12 GB in float32.

G gallery images, Q queries, L token ids, S image tokens, E embedding width.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from cada_jax.common.shapes import Array, Float, Float32, Int, Int32, Shaped
from cada_jax.distributed.batch import put_process_rows, put_rows, rows_to_host
from cada_jax.models.cada import CADA, apply
from cada_jax.models.layers import l2_normalize
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.network import Network
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.text.padding import READ_STEP, rounded_lengths


class Queries(NamedTuple):
    """Encoded texts, on the host.

    embeddings: float32 [Q,E] of length 1; token_ids: int32 [Q,L]; pids: int [Q], -1 for unknown.
    """

    embeddings: Float32[np.ndarray, "Q E"]
    token_ids: Int32[np.ndarray, "Q L"]
    pids: Int[np.ndarray, "Q"]


def encode_gallery(network: Network, batches: Iterable, size: int) -> EncodedImages:
    """Encodes images batch by batch.

    Args:
      batches: dicts of image uint8 [b,H,W,3], pid int [b], valid bool [b] (False: padding).
        Every host passes its share of the rows, see `mesh.process_batch_slice`.
      size: number of valid rows in all batches.

    Raises:
      ValueError: the batches hold more or fewer than `size` valid rows, or none.
    """

    def launch(batch):
        rows = put_process_rows(batch, network.mesh)
        return *network.run(_encode_images, rows["image"]), rows["pid"], rows["valid"]

    embeddings, tokens, pids = _collect(_valid_rows(batches, launch), size, "gallery")
    return EncodedImages(embeddings, tokens, pids)


def encode_batches(
    network: Network, batches: Iterable
) -> Iterator[tuple[Any, Float32[np.ndarray, "b E"], Float[np.ndarray, "b S Dv"]]]:
    """Encodes images of one process as they come; the device never waits for the caller.

    Args:
      batches: (anything, images uint8 [b,H,W,3]), always of the same b.

    Yields:
      What came with the images, their embeddings of length 1, their tokens.
    """

    def launch(batch):
        return network.run(_encode_images, put_rows(batch[1], network.mesh))

    for (item, _), (embeddings, tokens) in pipelined(batches, launch):
        yield item, embeddings, tokens


def encode_queries(network: Network, batches: Iterable, size: int) -> Queries:
    """Encodes texts batch by batch: dicts of token_ids int32 [b,L], pid [b], valid bool [b].

    Arguments and errors otherwise as in `encode_gallery`.
    """

    def launch(batch):
        rows = put_process_rows(batch, network.mesh)
        token_ids = rows["token_ids"]
        if jax.process_count() == 1:  # else none knows how long the captions of the others are
            pad = network.model.config.tokens.pad
            longest = rounded_lengths(batch["token_ids"], pad, READ_STEP).max()
            token_ids = token_ids[:, :longest]
        embeddings = network.run(_encode_texts, token_ids)
        return *embeddings, rows["token_ids"], rows["pid"], rows["valid"]

    return Queries(*_collect(_valid_rows(batches, launch), size, "query"))


@functools.partial(jax.jit, static_argnames="model")
def _encode_images(
    model: CADA, params: Any, images: Shaped[Array, "b H W 3"]
) -> tuple[Float32[Array, "b E"], Float[Array, "b S Dv"]]:
    encoded, tokens = apply(model, params, "encode_image", normalize_pixels(images))
    return l2_normalize(apply(model, params, "project_image", encoded)), tokens


@functools.partial(jax.jit, static_argnames="model")
def _encode_texts(
    model: CADA, params: Any, token_ids: Int[Array, "b L"]
) -> tuple[Float32[Array, "b E"]]:
    encoded, _ = apply(model, params, "encode_text", token_ids)
    return (l2_normalize(apply(model, params, "project_text", encoded)),)


def pipelined(items: Iterable, launch: Callable) -> Iterator[tuple[Any, tuple]]:
    """Yields (item, launch(item) on the host), one item late: the device never waits."""
    waiting = None
    for item in items:
        started = item, launch(item)
        if waiting is not None:
            yield waiting[0], tuple(rows_to_host(x) for x in waiting[1])
        waiting = started
    if waiting is not None:
        yield waiting[0], tuple(rows_to_host(x) for x in waiting[1])


def _valid_rows(batches: Iterable, launch: Callable) -> Iterator[list]:
    """What `launch` gives of each batch without its last array, the flags of valid rows."""
    for _, (*encoded, valid) in pipelined(batches, launch):
        yield [x[valid] for x in encoded]


def _collect(rows: Iterable[list], size: int, what: str) -> list[np.ndarray]:
    """Writes lists of arrays into arrays of `size` rows, allocated once."""
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
