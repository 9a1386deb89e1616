"""What a perfect reader of the captions could reach, computed from the true attributes.

    python -m tools.ceiling [--variant demo] [--split test]

The reader takes every statement of a caption (synonyms resolved) and, of every gallery image,
the attributes that the image shows. An image contradicts a caption if it shows another
value of a stated attribute; one that does not show the attribute at all (glasses, from behind) does
not. Two readers are scored:

- `consistent` knows only that: images without a contradiction first, in random order.
- `best` also prefers, among those, images that confirm more statements: a front view that shows the
  glasses before a back view that leaves them open.

Neither uses what a caption does not say.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cada_jax.data.datasets.synthetic.camera import visible
from cada_jax.data.datasets.synthetic.identity import Identity
from cada_jax.data.datasets.synthetic.people import (
    SPLITS,
    VARIANTS,
    Settings,
    make_captions,
    make_identities,
)
from cada_jax.retrieval.metrics import rank_metrics
from tools.arguments import Parser, command

_DRAWS = 10  # of the order among equals, over which the metrics are averaged
_ROWS = 2000  # captions that are compared with all images at once: some hundred MB


class Truth(NamedTuple):
    """Attributes as codes: 0 for "not stated" or "not visible".

    shown: int16 [images, fields], what each image shows; stated: int16 [captions, fields];
    image_person: int [images]; caption_person: int [captions].
    """

    shown: np.ndarray
    stated: np.ndarray
    image_person: np.ndarray
    caption_person: np.ndarray


def collect_truth(settings: Settings, split: str) -> Truth:
    """The true attributes of all images and captions of a split; nothing is drawn."""
    codes: dict[str, int] = {}

    def encode(attributes) -> list[int]:
        known = dict(attributes)
        return [
            codes.setdefault(known[field], len(codes) + 1) if field in known else 0
            for field in Identity._fields
        ]

    shown, stated, image_person, caption_person = [], [], [], []
    for person, identity in enumerate(make_identities(settings, split)):
        for image in range(settings.images_per_person):
            shot, captions = make_captions(settings, split, identity, person, image)
            shown.append(encode(visible(identity, shot)))
            stated += [encode(caption.stated) for caption in captions]
            image_person.append(person)
            caption_person += [person] * len(captions)
    return Truth(
        np.array(shown, np.int16),
        np.array(stated, np.int16),
        np.array(image_person),
        np.array(caption_person),
    )


def count_matches(stated: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts contradicted and confirmed statements of every caption-image pair.

    Args:
        stated: int [captions, fields], 0 where nothing is said.
        shown: int [images, fields], 0 where nothing is seen.

    Returns:
        (contradicted, confirmed), int16 [captions, images].
    """
    shape = len(stated), len(shown)
    contradicted, confirmed = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
    for said, seen in zip(stated.T, shown.T, strict=True):
        both = (said[:, None] != 0) & (seen[None, :] != 0)
        equal = said[:, None] == seen[None, :]
        confirmed += both & equal
        contradicted += both & ~equal
    return contradicted, confirmed


def compute_ceiling(settings: Settings, split: str, seed: int = 0) -> dict[str, dict[str, float]]:
    """Returns {"consistent": metrics, "best": metrics}, in percent.

    The expectation over the order among equal images is exact for "R1" and the mean of
    `_DRAWS` random orders for the other metrics.
    """
    truth = collect_truth(settings, split)
    rng = np.random.default_rng(seed)
    sums: dict[str, dict[str, float]] = {}
    for start in range(0, len(truth.stated), _ROWS):
        stated = truth.stated[start : start + _ROWS]
        person = truth.caption_person[start : start + _ROWS]
        right = person[:, None] == truth.image_person[None, :]
        for name, metrics in _score_readers(stated, truth.shown, right, rng).items():
            total = sums.setdefault(name, dict.fromkeys(metrics, 0.0))
            for key, value in metrics.items():
                total[key] += value * len(stated) / len(truth.stated)
    return sums


def _score_readers(
    stated: np.ndarray, shown: np.ndarray, right: np.ndarray, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Metrics of both readers on some captions; `right` is bool [captions, images]."""
    contradicted, confirmed = count_matches(stated, shown)
    consistent = (contradicted == 0).astype(np.float64)
    results = {}
    for name, score in (("consistent", consistent), ("best", consistent * (1 + confirmed))):
        draws = [rank_metrics(score + 0.5 * rng.random(score.shape), right) for _ in range(_DRAWS)]
        results[name] = {key: float(np.mean([d[key] for d in draws])) for key in draws[0]}
        top = score == score.max(axis=1, keepdims=True)
        results[name]["R1"] = 100 * float(np.mean((top & right).sum(1) / top.sum(1)))
    return results


def run(argv: Sequence[str] | None) -> int:
    """Prints the ceiling of the split that the flags name; returns the exit code."""
    parser = Parser("tools.ceiling", __doc__)
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="demo")
    parser.add_argument("--split", choices=SPLITS, default="test")
    flags = parser.flags(argv)
    results = compute_ceiling(VARIANTS[flags.variant], flags.split)
    print(f"Ceiling of synthetic/{flags.variant}, split {flags.split}, in percent:")
    for name, metrics in results.items():
        print(f"{name:>11}  " + "  ".join(f"{k} {v:5.1f}" for k, v in metrics.items()))
    return 0


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
