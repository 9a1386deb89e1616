"""The generated people of a split as pictures, with what is true of each."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cada_jax.common.images import read_rgb
from cada_jax.data.datasets.synthetic import people
from cada_jax.data.datasets.synthetic.camera import visible


class Shown(NamedTuple):
    """One picture of a split.

    name: as the data set calls it, without its ending; person: number in the data set; identity:
    every attribute of the person; seen: those that this picture shows; captions: that describe it;
    jpeg: the file.
    """

    name: str
    person: int
    identity: Mapping[str, str]
    seen: Mapping[str, str]
    captions: tuple[str, ...]
    jpeg: bytes

    @property
    def pixels(self) -> np.ndarray:
        """uint8 [H,W,3]."""
        return read_rgb(self.jpeg)


def draw(variant: str, split: str, most: int | None = None) -> list[Shown]:
    """Draws a split, about 600 pictures a second.

    Args:
      variant: of `people.VARIANTS`.
      split: "train", "val" or "test".
      most: pictures; all if None.
    """
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
                example.jpeg,
            )
        )
    return shown


def write_files(folder: pathlib.Path, shown: list[Shown]) -> list[pathlib.Path]:
    """Writes the pictures' own files; returns their paths."""
    paths = [folder / f"{one.name}.jpg" for one in shown]
    for path, one in zip(paths, shown, strict=True):
        path.write_bytes(one.jpeg)
    return paths
