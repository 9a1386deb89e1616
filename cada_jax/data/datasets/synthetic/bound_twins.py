"""Near-twins that a bag of words cannot tell apart: the same things in the same colours, exchanged.

One wears a red top and blue trousers, the other a blue top and red trousers. Only who reads which
colour belongs to which garment can tell them apart.
"""

import numpy as np

from cada_jax.data.datasets.synthetic.identity import NONE, Identity

# Fields whose colours change places: what a caption names and most images show.
BOUND = ("top_color", "outer_color", "bottom_color", "headwear_color", "bag_color", "shoes_color")
_SHARE_OF_THREE = 0.4


def swap_colors(rng: np.random.Generator, identity: Identity) -> Identity | None:
    """The person with the colours of two or three things moved on in a ring.

    Returns:
      None where the things drawn have not as many different colours.
    """
    fields = [field for field in BOUND if getattr(identity, field) != NONE]
    number = 3 if rng.random() < _SHARE_OF_THREE else 2
    if len(fields) < number:
        return None
    chosen = [fields[i] for i in rng.permutation(len(fields))[:number]]
    colors = [getattr(identity, field) for field in chosen]
    if len(set(colors)) < number:
        return None
    return identity._replace(**dict(zip(chosen, colors[1:] + colors[:1], strict=True)))


def group_sizes(rng: np.random.Generator, persons: int, sizes: tuple[int, int]) -> list[int]:
    """Sizes of groups of near-twins, drawn from `sizes` (least, most), that sum to `persons`."""
    found: list[int] = []
    while (left := persons - sum(found)) > 0:
        found.append(min(left, int(rng.integers(sizes[0], sizes[1] + 1))))
    return found
