"""Packs text-image pairs into fixed shapes that touch few distinct images; pure NumPy.

The decoder computes an image's keys and values once for all its texts in a group, so pairs of
one image belong together. P pairs, N groups of m pairs and b images.
"""

from typing import NamedTuple

import numpy as np


class PairPlan(NamedTuple):
    """Pairs packed into N groups of at most m pairs and b distinct images; a device takes one.

    pair: int [N,m], positions in the sorted list of pairs (padding repeats a group's first);
    used: bool [N,m], False for padding; image: int [N,b], the images of a group (padding
    repeats its last); local: int32 [N,m], the position in `image` of each pair's image.
    """

    pair: np.ndarray
    used: np.ndarray
    image: np.ndarray
    local: np.ndarray


def plan_pairs(image_index: np.ndarray, rows: int, image_cost: float) -> PairPlan:
    """Packs pairs into groups of `rows` with a fixed, small number of distinct images.

    That number is `rows` over the power of two for which decoding costs least: few images waste
    rows when images have few texts each, many images waste keys and values.

    Args:
      image_index: int [P], P > 0, sorted: the image of each pair.
      rows: pairs of a group, m.
      image_cost: keys and values of one image over decoding one pair. By counting products,
        2 S D^2 over 14 L D^2 per layer, that is S / (7 L).
    """
    new_image = np.concatenate([[True], image_index[1:] != image_index[:-1]])
    number = np.cumsum(new_image) - 1  # of each pair's image, counting distinct ones
    first_pair = np.append(np.flatnonzero(new_image), len(image_index))
    best = None
    images = rows
    while images:
        begins = _group_begins(number, first_pair, rows, images)
        cost = (len(begins) - 1) * (rows + image_cost * images)
        if best is None or cost < best[0]:
            best = cost, begins, images
        images //= 2
    _, begins, images = best
    begin, end = begins[:-1, None], begins[1:, None]
    pair = begin + np.arange(rows)[None]
    used = pair < end
    pair = np.where(used, pair, begin)
    within = np.minimum(number[begin] + np.arange(images)[None], number[end - 1])
    return PairPlan(
        pair, used, image_index[first_pair[within]], (number[pair] - number[begin]).astype(np.int32)
    )


def _group_begins(number, first_pair, rows: int, images: int) -> np.ndarray:
    """Cuts the sorted pairs greedily: int [N+1], where each group begins, and the end."""
    begins, total = [0], len(number)
    while begins[-1] < total:
        beyond = min(number[begins[-1]] + images, len(first_pair) - 1)
        begins.append(min(begins[-1] + rows, int(first_pair[beyond])))
    return np.asarray(begins)
