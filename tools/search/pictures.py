"""The generated people of a split as pictures, with what is true of each."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cada_jax.common.images import encode_png
from cada_jax.data.datasets.synthetic import people
from cada_jax.data.datasets.synthetic.camera import visible


class Shown(NamedTuple):
    """One picture of a split.

    name: as the data set calls it, without its ending; person: number in the data set; identity:
    every attribute of the person; seen: those that this picture shows; captions: that describe it;
    pixels: uint8 [H,W,3] as TensorFlow decodes them for training and evaluation.
    """

    name: str
    person: int
    identity: Mapping[str, str]
    seen: Mapping[str, str]
    captions: tuple[str, ...]
    pixels: np.ndarray


def draw(variant: str, split: str, most: int | None = None) -> list[Shown]:
    """Draws a split, about 600 pictures a second.

    Args:
      variant: of `people.VARIANTS`.
      split: "train", "val" or "test".
      most: pictures; all if None.
    """
    import tensorflow as tf

    settings = people.VARIANTS[variant]
    first = settings.first_pid(split)
    shown = []
    for example in people.generate(settings, split):
        if most is not None and len(shown) >= most:
            break
        name = people.image_path(first + example.person, example.image)
        shown.append(
            Shown(
                pathlib.PurePath(name).stem,
                first + example.person,
                example.identity._asdict(),
                visible(example.identity, example.shot),
                tuple(caption.text for caption in example.captions),
                tf.io.decode_jpeg(example.jpeg, channels=3).numpy(),
            )
        )
    return shown


def write_pngs(folder: pathlib.Path, shown: list[Shown]) -> list[pathlib.Path]:
    """Writes the pictures without loss: whoever reads them sees what the evaluation saw."""
    paths = [folder / f"{one.name}.png" for one in shown]
    for path, one in zip(paths, shown, strict=True):
        path.write_bytes(encode_png(one.pixels))
    return paths
