"""Match logits averaged over an image and its mirror image: `eval.mirror`.

Source: MRA's evaluation. The gain of this alone is not published. The similarity of stage one
stays that of the image as it is.

The gallery is encoded twice, its tokens are held twice, and every pair is decoded twice.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from cada_jax.common.console import Progress
from cada_jax.common.shapes import Float, Float32
from cada_jax.network import Network
from cada_jax.retrieval.rerank import Pairs, match_pairs

Match = Callable[..., Float32[np.ndarray, "P"]]


def mirrored(batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Batches whose image [b,H,W,3] is flipped from left to right; everything else as it is."""
    for batch in batches:
        yield batch | {"image": batch["image"][:, :, ::-1]}


def match_both(mirror_tokens: Float[np.ndarray, "G S Dv"], match: Match = match_pairs) -> Match:
    """A function like `match` that averages over two sets of image tokens.

    Args:
      mirror_tokens: float [G,S,Dv] of the mirror images, in the order of the gallery.
      match: (network, pairs, progress=...) -> logits float32 [P], as `rerank.match_pairs`.
    """

    def averaged(network: Network, pairs: Pairs, progress: Progress | None = None) -> np.ndarray:
        both = (pairs, pairs._replace(image_tokens=mirror_tokens))
        seen, reflected = (match(network, of_one, progress=progress) for of_one in both)
        return (seen + reflected) / 2

    return averaged
