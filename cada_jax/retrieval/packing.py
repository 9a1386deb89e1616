"""Packs the texts that one image is compared with into rows of fixed length; pure NumPy.

The decoder computes an image's keys and values once for all the texts beside it, and texts that lie
one after another in a row leave little padding. A block is one image and a few rows of tokens.
Blocks come in few shapes, so that few programs are compiled.

P pairs, N blocks of r rows, t texts in a row at most.
"""

import bisect
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cada_jax.common.shapes import Int, Int32

ROW = 128  # tokens; longer rows cost more attention among their texts, shorter ones fill worse
SHORT_ROWS = (16, 24, 32, 48, 64, 96)  # for images with few texts, of a row of 128
MANY_ROWS = (2, 3, 4, 8)
LEAST = 16  # tokens that a text is given at least, which bounds how many a row can hold
FILL = 0.95  # of a block's tokens that texts usually take; the choice of shapes relies on it


class Shape(NamedTuple):
    """Rows of a block and tokens of each."""

    rows: int
    length: int

    @property
    def tokens(self) -> int:
        """Of the whole block."""
        return self.rows * self.length

    @property
    def texts(self) -> int:
        """That one row can hold."""
        return max(1, self.length // LEAST)


class Blocks(NamedTuple):
    """Blocks of one shape.

    image: int [N]; pair: int [N,r,t], a position among the pairs or -1 for none; start: int32
    [N,r,t], where in its row the text begins.
    """

    image: Int[np.ndarray, "N"]
    pair: Int[np.ndarray, "N r t"]
    start: Int32[np.ndarray, "N r t"]


def block_cost(shape: Shape, image_tokens: int, width: int) -> float:
    """Operations of a block in one decoder layer, over those of one token's maps and MLP, 28 D^2.

    `image_tokens` is S, `width` D.
    """
    attention = (image_tokens + shape.length) / (7 * width)
    return shape.tokens * (1 + attention) + image_tokens / 7


def shapes_for(longest: int, tokens: int) -> list[Shape]:
    """The shapes that blocks may have, by size; each fits into all that follow.

    Args:
      longest: tokens of the longest text.
      tokens: the most that a block may have, if the longest text leaves a choice.
    """
    row = max(ROW, -(-longest // 8) * 8)
    single = [Shape(1, -(-row * part // (8 * ROW)) * 8) for part in (*SHORT_ROWS, ROW)]
    many = [Shape(rows, row) for rows in MANY_ROWS]
    fitting = [shape for shape in (*single, *many) if shape.tokens <= tokens]
    enough = next(shape for shape in single if shape.length >= longest)
    return fitting if enough in fitting else [s for s in single if s.tokens <= enough.tokens]


def pack_pairs(
    lengths: Int[np.ndarray, "P"],
    image_index: Int[np.ndarray, "P"],
    shapes: Sequence[Shape],
    costs: Sequence[float],
    few: float = 0.0,
) -> dict[Shape, Blocks]:
    """Packs every pair into one block of its image.

    Args:
      lengths: int [P], tokens of each pair's text; none longer than the longest row. A shorter
        one than `LEAST` takes that much room.
      image_index: int [P], sorted.
      shapes: from `shapes_for`.
      costs: of a block of each shape, see `block_cost`.
      few: a shape whose blocks could take the next larger one that is used, for no more than this
        much more, is not used.

    Returns:
      The blocks of every shape that is used.
    """
    choose = _Choice(shapes, costs)
    made = {shape: [] for shape in shapes}
    lengths = np.maximum(lengths, LEAST)
    most = 2 * shapes[-1].tokens
    ends = np.append(np.flatnonzero(np.diff(image_index)) + 1, len(image_index)).tolist()
    begin = 0
    for end in ends:
        tokens = lengths[begin:end].tolist()
        for part in _parts(tokens, most):
            texts = [(tokens[i], begin + i) for i in part]
            texts.sort(key=lambda text: -text[0])
            left = sum(n for n, _ in texts)
            while texts:
                shape = shapes[choose(left, texts[0][0])]
                rows, texts, free = _first_fit(texts, shape)
                left -= shape.tokens - free
                made[shape].append((int(image_index[begin]), rows))
        begin = end
    used = [i for i, shape in enumerate(shapes) if made[shape]]
    for i, larger in itertools.pairwise(used):
        if len(made[shapes[i]]) * (costs[larger] - costs[i]) <= few:
            made[shapes[larger]] += made.pop(shapes[i])
    return {shape: _arrays(blocks, shape) for shape, blocks in made.items() if blocks}


class _Choice:
    """Which shape to take next for an image's remaining texts, by dynamic programming."""

    def __init__(self, shapes: Sequence[Shape], costs: Sequence[float]):
        self.lengths = sorted({shape.length for shape in shapes})
        most = 2 * shapes[-1].tokens
        cheapest = np.zeros(most + 1)
        self.best = np.zeros((len(self.lengths), most + 1), int)
        for tokens in range(1, most + 1):
            total = [
                cost + cheapest[max(0, tokens - self._taken(shape, tokens))]
                for shape, cost in zip(shapes, costs, strict=True)
            ]
            order = np.argsort(total, kind="stable")
            cheapest[tokens] = total[order[0]]
            for i, length in enumerate(self.lengths):
                fits = (k for k in order if shapes[k].length >= length)
                self.best[i, tokens] = next(fits)

    @staticmethod
    def _taken(shape: Shape, tokens: int) -> int:
        if shape.rows == 1 and tokens <= shape.tokens:  # texts that fit one row fit it exactly
            return tokens
        return int(FILL * shape.tokens)

    def __call__(self, tokens: int, longest: int) -> int:
        row = bisect.bisect_left(self.lengths, longest)
        return int(self.best[row, min(tokens, self.best.shape[1] - 1)])


def _parts(tokens: list[int], most: int) -> list[range]:
    """Cuts an image's texts into parts of at most `most` tokens: packing is quadratic in a part."""
    parts, begin, total = [], 0, 0
    for i, length in enumerate(tokens):
        if total + length > most:
            parts.append(range(begin, i))
            begin, total = i, 0
        total += length
    return [*parts, range(begin, len(tokens))]


def _first_fit(texts: list[tuple[int, int]], shape: Shape):
    """Puts texts, longest first, where there is room: (rows of (start, pair), rest, tokens free).

    No text is shorter than `LEAST`, so that full rows end the search.
    """
    free = [shape.length] * shape.rows
    rows = [[] for _ in free]
    rest = []
    for number, text in enumerate(texts):
        length, pair = text
        if max(free) < LEAST:
            rest += texts[number:]
            break
        for i, room in enumerate(free):
            if length <= room:
                rows[i].append((shape.length - room, pair))
                free[i] -= length
                break
        else:
            rest.append(text)
    return rows, rest, sum(free)


def _arrays(blocks: list, shape: Shape) -> Blocks:
    size = (len(blocks), shape.rows, shape.texts)
    pair, start = np.full(size, -1), np.zeros(size, np.int32)
    places = [
        (n, r, t, *text)
        for n, (_, rows) in enumerate(blocks)
        for r, row in enumerate(rows)
        for t, text in enumerate(row)
    ]
    n, r, t, begins, pairs = np.asarray(places).T
    pair[n, r, t], start[n, r, t] = pairs, begins
    return Blocks(np.asarray([image for image, _ in blocks]), pair, start)


class Rows(NamedTuple):
    """Texts laid out in M rows of T tokens.

    token_ids: int32 [M,T], padding where there is no text; segments: int32 [M,T], which text of
    the row a token belongs to, -1 for none; positions: int32 [M,T], of a token in its text.
    """

    token_ids: Int32[np.ndarray, "M T"]
    segments: Int32[np.ndarray, "M T"]
    positions: Int32[np.ndarray, "M T"]


def lay_out(
    token_ids: Int[np.ndarray, "Q L"],
    lengths: Int[np.ndarray, "Q"],
    text: Int[np.ndarray, "M t"],
    start: Int[np.ndarray, "M t"],
    length: int,
    pad: int,
) -> Rows:
    """Writes texts into rows.

    `lengths` are tokens of each text; `text` is in [0,Q), or -1 for none, and begins at `start`.
    """
    row, number = np.nonzero(text >= 0)
    source, begin = text[row, number], start[row, number]
    count = lengths[source]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    place = np.repeat(row, count), np.repeat(begin, count) + within
    rows = Rows(
        np.full((len(text), length), pad, np.int32),
        np.full((len(text), length), -1, np.int32),
        np.zeros((len(text), length), np.int32),
    )
    rows.token_ids[place] = token_ids[np.repeat(source, count), within]
    rows.segments[place] = np.repeat(number, count)
    rows.positions[place] = within
    return rows
