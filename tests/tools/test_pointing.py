"""A map that lights up the garment points, one beside it does not; and where a garment is."""

import numpy as np
import pytest

from cada_jax.data.datasets.synthetic import people
from cada_jax.data.datasets.synthetic.drawing import part_mask
from tools.pointing import points

COVERED = np.array([0.0, 1.0, 0.6, 0.1])


def test_a_map_is_judged_by_its_heaviest_patch_and_by_its_weight_inside():
    assert points(np.array([0.0, 2.0, 0.0, 0.0]), COVERED) == (1.0, 1.0)
    assert points(np.array([0.0, 1.0, 2.0, 0.0]), COVERED) == (1.0, pytest.approx(2.2 / 3))
    assert points(np.array([3.0, 1.0, 0.0, -9.0]), COVERED) == (0.0, 0.25)
    assert points(np.zeros(4), COVERED) == (0.5, COVERED.mean())  # a dark map is as good as chance


def test_a_part_is_where_it_shows_and_not_behind_another():
    parts = ("hair", "headwear", "eyewear", "scarf", "top", "outer", "bottom", "shoes", "bag")
    shown = set()
    for example in people.generate(people.VARIANTS["tiny"], "test"):
        masks = {part: part_mask(example.identity, example.shot, part) for part in parts}
        for part, mask in masks.items():
            assert mask.min() >= 0 and mask.max() <= 1
            absent = getattr(example.identity, part, "") == "none"
            assert not (absent and mask.any())
            shown |= {part} if mask.sum() > 12 else set()
        # Where two parts meet a pixel is shared, and nowhere is more than all of it covered.
        overlap = masks["top"] + masks["outer"] + masks["bottom"] + masks["scarf"]
        assert (overlap > 1.01).sum() <= 8
        rows = [
            np.average(np.arange(96), weights=masks[p].sum(1))
            for p in ("hair", "shoes")
            if masks[p].any()
        ]
        assert rows == sorted(rows)
    assert shown == set(parts)
