"""Retrieval's second stage, shared by evaluation and search: the decoder scores pairs.

Pairs are packed by image (`packing`): an image's keys and values are computed once for many texts,
and texts share rows, so that hardly any padding is decoded. Images reach the device in their order,
a block at a time. Every device gets blocks of its own and asks no other one for anything.

Q queries, G gallery images, P pairs, L token ids, S image tokens.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from cada_jax.common.console import Progress
from cada_jax.common.shapes import Array, Float, Float32, Int, Int32
from cada_jax.distributed.batch import put_rows
from cada_jax.distributed.mesh import batch_divisor
from cada_jax.models.bert import STEM_REACH, Packed
from cada_jax.models.cada import CADA, apply
from cada_jax.network import Network
from cada_jax.retrieval import packing
from cada_jax.retrieval.encode import pipelined
from cada_jax.text.padding import rounded_lengths

FEW_BATCHES = 8  # of one shape, see `_blocks_at_once`
# Numbers of the MLP's hidden layer that a CPU computes at once: 1,024 tokens of width 3072 ran a
# quarter faster than 4,096, whose 50 MB leave the caches.
CPU_HIDDEN = 2**22
# Steady batches: rows of so many tokens, and of blocks so many, times four, times sixteen ...
STEADY_ROWS = (16, 32, 64, 128)
STEADY_BLOCKS, STEADY_STEP = 8, 4


class Pairs(NamedTuple):
    """P pairs of a text and an image, in any order.

    token_ids: int32 [Q,L]; image_tokens: float [G,S,Dv] on the host, or anything that NumPy's
    indexing works on; text_index: int [P] in [0,Q); image_index: int [P] in [0,G).
    """

    token_ids: Int[np.ndarray, "Q L"]
    image_tokens: Float[np.ndarray, "G S Dv"]
    text_index: Int[np.ndarray, "P"]
    image_index: Int[np.ndarray, "P"]


def match_pairs(
    network: Network,
    pairs: Pairs,
    batch: int | None = None,
    progress: Progress | None = None,
    steady: bool = False,
) -> Float32[np.ndarray, "P"]:
    """Match logits of P text-image pairs: float32 [P].

    Args:
      network: the pairs are split over the data axes of its mesh.
      pairs: what to score.
      batch: the tokens decoded at once over all devices are those of so many of the longest texts;
        a CPU takes less where more would only be slower. None: `config.eval.rerank_batch`.
      progress: wraps the loop over batches.
      steady: whatever is asked, the programs are among the same dozen, each compiled once. For
        searches, where one more program costs a user seconds and a wasted row a millisecond.
    """
    logits = np.empty(len(pairs.text_index), np.float32)
    if not len(logits):
        return logits
    pad = network.model.config.tokens.pad
    lengths = rounded_lengths(pairs.token_ids, pad, 1)
    parts = plan_batches(network, pairs, batch, steady)

    def launch(part):
        # A place of no text reads the first token of its row, and nobody reads the result.
        starts = part.start.reshape(-1, part.shape.texts)
        text = np.where(part.pair < 0, -1, pairs.text_index[part.pair]).reshape(starts.shape)
        rows = packing.lay_out(pairs.token_ids, lengths, text, starts, part.shape.length, pad)
        inputs = *rows, starts, pairs.image_tokens[part.image]
        inputs = [put_rows(x, network.mesh) for x in inputs]
        return (network.run(_match_logits, *inputs),)

    wrapped = parts if progress is None else progress(parts, len(parts), "re-rank")
    for part, (values,) in pipelined(wrapped, launch):
        values = values[: len(part.pair) * part.shape.rows].reshape(part.pair.shape)
        used = part.pair >= 0
        logits[part.pair[used]] = values[used]
    return logits


class Batch(NamedTuple):
    """Blocks decoded at once, see `packing.Blocks`; `pair` are positions among all pairs."""

    shape: packing.Shape
    image: Int[np.ndarray, "N"]
    pair: Int[np.ndarray, "N r t"]
    start: Int32[np.ndarray, "N r t"]


def plan_batches(
    network: Network, pairs: Pairs, batch: int | None = None, steady: bool = False
) -> list[Batch]:
    """The batches in which `match_pairs` decodes; arguments as there."""
    text = network.model.config.text
    lengths = rounded_lengths(pairs.token_ids, network.model.config.tokens.pad, 1)
    stem = STEM_REACH if text.stem == "conv" else 0
    lengths = lengths + stem
    devices = batch_divisor(network.mesh)
    longest = pairs.token_ids.shape[1] + stem if steady else int(lengths[pairs.text_index].max())
    tokens = (batch or network.config.eval.rerank_batch) * longest
    if network.mesh.devices.flat[0].platform == "cpu":
        tokens = min(tokens, devices * max(longest, CPU_HIDDEN // text.mlp_dim))
    shapes = packing.shapes_for(longest, tokens // devices)
    if steady:
        shapes = [s for s in shapes if s.rows == 1 and s.length in STEADY_ROWS] or shapes[-1:]
    seen = pairs.image_tokens.shape[1]
    costs = [packing.block_cost(shape, seen, text.width) for shape in shapes]
    few = tokens / 2  # to compile one more program is worth half a batch
    order = np.argsort(pairs.image_index, kind="stable")
    packed = packing.pack_pairs(
        lengths[pairs.text_index[order]], pairs.image_index[order], shapes, costs, few=few
    )
    batches = []
    for shape, blocks in packed.items():
        most = max(1, tokens // (devices * shape.tokens))
        sizes = _steady_sizes if steady else _even_sizes
        batches += _batches_of(shape, blocks, sizes(len(blocks.image), most * devices, devices))
    # Positions among the pairs sorted by image become positions among the pairs as given.
    return [part._replace(pair=np.where(part.pair < 0, -1, order[part.pair])) for part in batches]


def _batches_of(shape: packing.Shape, blocks: packing.Blocks, sizes: list[int]) -> list[Batch]:
    """Blocks of one shape in batches of these sizes, the last one filled up with blocks of no text.

    Args:
      shape: of the blocks.
      blocks: N of them.
      sizes: blocks of each batch, at least N in all.
    """
    batches, begin = [], 0
    for size in sizes:
        places = np.arange(begin, begin + size)
        real = np.minimum(places, len(blocks.pair) - 1)
        used = (places < len(blocks.pair))[:, None, None]
        pair = np.where(used, blocks.pair[real], -1)
        start = np.where(used, blocks.start[real], 0)
        batches.append(Batch(shape, blocks.image[real], pair, start))
        begin += size
    return batches


def _even_sizes(blocks: int, most: int, devices: int) -> list[int]:
    """Batches of one size: as many blocks as allowed, or, of few, what fills the last one best.

    Where there are many that costs little, and every split's programs are the same.

    Args:
      blocks: in all.
      most: of a batch, a multiple of `devices`.
      devices: every size is a multiple of it, too.
    """
    size = most
    if blocks <= FEW_BATCHES * most:
        least = -(-blocks // (-(-blocks // most) + 1))  # at most one batch more than there must be
        sizes = range(most, max(0, least - devices), -devices)
        size = min(sizes, key=lambda size: (-(-blocks // size) * size, -size))
    return [size] * -(-blocks // size)


def _steady_sizes(blocks: int, most: int, devices: int) -> list[int]:
    """Batches of a few sizes, largest first; arguments as of `_even_sizes`."""
    allowed = [min(STEADY_BLOCKS * devices, most)]
    while (larger := STEADY_STEP * allowed[-1]) <= most:
        allowed.append(larger)
    sizes, left = [], blocks
    for size in reversed(allowed):
        sizes += [size] * (left // size)
        left %= size
    return sizes + allowed[:1] * (left > 0)


@functools.partial(jax.jit, static_argnames="model")
def _match_logits(
    model: CADA,
    params: Any,
    token_ids: Int[Array, "M T"],
    segments: Int[Array, "M T"],
    positions: Int[Array, "M T"],
    output_positions: Int[Array, "M t"],
    image_tokens: Float[Array, "B S Dv"],
) -> Float32[Array, "M t"]:
    """Rows [M,T], outputs [M,t], image_tokens [B,S,Dv] -> match logits [M,t]; B divides M."""
    packed = Packed(segments, positions, output_positions)
    return apply(model, params, "match_packed", token_ids, packed, image_tokens)[..., 1]
