"""Retrieval's second stage, shared by evaluation and search: the decoder scores pairs.

Pairs are packed by image (`packing`): an image's keys and values are computed once for many texts,
and texts share rows, so that hardly any padding is decoded. Images reach the device in their order,
a block at a time. Every device gets blocks of its own and asks no other one for anything.

Q queries, G gallery images, P pairs, L token ids, S image tokens.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from cada_jax.distributed.mesh import batch_divisor
from cada_jax.models.bert import STEM_REACH, Packed
from cada_jax.retrieval import packing
from cada_jax.retrieval.encode import pipelined, put_rows
from cada_jax.text.padding import rounded_lengths

# progress(iterable, total, text) yields what the iterable yields; see evaluate.progress_bar.
Progress = Callable[[Iterable, int, str], Iterable]
FEW_BATCHES = 8  # of one shape, see `_blocks_at_once`
# Numbers of the MLP's hidden layer that a CPU computes at once: 1,024 tokens of width 3072 ran a
# quarter faster than 4,096, whose 50 MB leave the caches.
CPU_HIDDEN = 2**22


def rerank(
    model: nn.Module,
    params: Any,
    token_ids: np.ndarray,
    image_tokens: np.ndarray,
    indices: np.ndarray,
    mesh: Mesh,
    batch: int,
    progress: Progress | None = None,
) -> np.ndarray:
    """Match logits of every query with its own k images: float32 [Q,k].

    Args:
      model: from `models.cada.from_config`.
      params: its parameters, on `mesh`.
      token_ids: int32 [Q,L].
      image_tokens: float [G,S,Dv] on the host, or anything such indexing works on.
      indices: int [Q,k] into the gallery.
      mesh: the pairs are split over its data axes.
      batch: see `score_pairs`.
      progress: wraps the loop over batches.
    """
    queries, k = indices.shape
    text = np.repeat(np.arange(queries), k)
    logits = score_pairs(
        model, params, token_ids, image_tokens, text, indices.reshape(-1), mesh, batch, progress
    )
    return logits.reshape(queries, k)


def score_pairs(
    model: nn.Module,
    params: Any,
    token_ids: np.ndarray,
    image_tokens: np.ndarray,
    text_index: np.ndarray,
    image_index: np.ndarray,
    mesh: Mesh,
    batch: int,
    progress: Progress | None = None,
) -> np.ndarray:
    """Match logits of P text-image pairs in any order: float32 [P].

    Args:
      model: from `models.cada.from_config`.
      params: its parameters, on `mesh`.
      token_ids: int32 [Q,L].
      image_tokens: float [G,S,Dv].
      text_index: int [P] in [0,Q).
      image_index: int [P] in [0,G).
      mesh: the pairs are split over its data axes.
      batch: the tokens decoded at once over all devices are those of so many of the longest texts;
        a CPU takes less where more would only be slower.
      progress: wraps the loop over batches.
    """
    logits = np.empty(len(text_index), np.float32)
    if not len(logits):
        return logits
    pad = model.config.tokens.pad
    lengths = rounded_lengths(token_ids, pad, 1)
    parts = plan_batches(model, lengths, image_tokens, text_index, image_index, mesh, batch)

    def launch(part):
        # A place of no text reads the first token of its row, and nobody reads the result.
        output_positions = part.start.reshape(-1, part.shape.texts)
        text = np.where(part.pair < 0, -1, text_index[part.pair]).reshape(output_positions.shape)
        rows = packing.lay_out(token_ids, lengths, text, output_positions, part.shape.length, pad)
        inputs = *rows, output_positions, image_tokens[part.image]
        return (_match_logits(model, params, *(put_rows(x, mesh) for x in inputs)),)

    wrapped = parts if progress is None else progress(parts, len(parts), "re-rank")
    for part, (values,) in pipelined(wrapped, launch):
        values = values[: len(part.pair) * part.shape.rows].reshape(part.pair.shape)
        used = part.pair >= 0
        logits[part.pair[used]] = values[used]
    return logits


class Batch(NamedTuple):
    """Blocks decoded at once, see `packing.Blocks`; `pair` are positions among all pairs."""

    shape: packing.Shape
    image: np.ndarray
    pair: np.ndarray
    start: np.ndarray


def plan_batches(
    model: nn.Module,
    lengths: np.ndarray,
    image_tokens: np.ndarray,
    text_index: np.ndarray,
    image_index: np.ndarray,
    mesh: Mesh,
    batch: int,
) -> list[Batch]:
    """The batches in which `score_pairs` decodes.

    Args:
      model: gives the width and the stem of its texts.
      lengths: int [Q], tokens of each text.
      image_tokens: float [G,S,Dv].
      text_index: int [P] in [0,Q).
      image_index: int [P] in [0,G).
      mesh: a batch holds a multiple of its devices in blocks.
      batch: the tokens of a batch are those of so many of the longest texts.
    """
    text = model.config.text
    lengths = lengths + (STEM_REACH if text.stem == "conv" else 0)
    devices = batch_divisor(mesh)
    longest = int(lengths[text_index].max())
    tokens = batch * longest
    if jax.default_backend() == "cpu":
        tokens = min(tokens, devices * max(longest, CPU_HIDDEN // text.mlp_dim))
    shapes = packing.shapes_for(longest, tokens // devices)
    costs = [packing.block_cost(shape, image_tokens.shape[1], text.width) for shape in shapes]
    order = np.argsort(image_index, kind="stable")
    # To compile one more program is worth half a batch.
    packed = packing.pack_pairs(
        lengths[text_index[order]], image_index[order], shapes, costs, few=tokens / 2
    )
    batches = []
    for shape, blocks in packed.items():
        most = max(1, tokens // (devices * shape.tokens)) * devices
        size = _blocks_at_once(len(blocks.image), most, devices)
        pair = np.where(blocks.pair < 0, -1, order[blocks.pair])
        for i in range(0, len(pair), size):
            places = np.arange(i, i + size)
            real = np.minimum(places, len(pair) - 1)  # the last batch is filled up
            used = (places < len(pair))[:, None, None]
            batches.append(
                Batch(
                    shape,
                    blocks.image[real],
                    np.where(used, pair[real], -1),
                    np.where(used, blocks.start[real], 0),
                )
            )
    return batches


def _blocks_at_once(blocks: int, most: int, devices: int) -> int:
    """Blocks decoded at once: as many as allowed, or, of few batches, what fills the last one best.

    Where there are many that costs little, and every split's programs are the same.

    Args:
      blocks: in all.
      most: a multiple of `devices`.
      devices: what is returned is a multiple of it, too.
    """
    if blocks > FEW_BATCHES * most:
        return most
    least = -(-blocks // (-(-blocks // most) + 1))  # at most one batch more than there must be
    sizes = range(most, max(0, least - devices), -devices)
    return min(sizes, key=lambda size: (-(-blocks // size) * size, -size))


@functools.partial(jax.jit, static_argnames="model")
def _match_logits(model, params, token_ids, segments, positions, output_positions, image_tokens):
    """Rows [M,T], outputs [M,t], image_tokens [B,S,Dv] -> match logits [M,t]; B divides M."""
    packed = Packed(segments, positions, output_positions)
    logits = model.apply({"params": params}, token_ids, packed, image_tokens, method="match_packed")
    return logits[..., 1]
