"""A tiny network that indexes in milliseconds, and generated pictures: for tests of indexing."""

import functools
import io
import pathlib

import jax
import numpy as np
from PIL import Image

from cada_jax.gallery.gallery import Gallery
from cada_jax.network import abstract_network
from cada_jax.retriever import Retriever
from tests.conftest import tiny_config_of_steps


class _NoTokenizer:
    """Indexing reads no text."""


@functools.cache
def tiny_retriever(seed: int = 0) -> Retriever:
    """Random parameters: images of 32 x 16, vectors of 16 numbers, 9 tokens of 32."""
    config = tiny_config_of_steps()
    config.eval.batch_size = 4
    network = abstract_network(config, jax.devices()[:1])
    noise = np.random.default_rng(seed)  # Flax's initializers compile for half a minute
    params = jax.tree.map(lambda x: noise.normal(0, 0.2, x.shape).astype(x.dtype), network.params)
    network = network.with_params(params)
    return Retriever(network.config, network.mesh, network.model, network.params, _NoTokenizer())


def picture(number: int, size: tuple[int, int] = (24, 40)) -> Image.Image:
    """A picture of noise, (width, height) in pixels; another for every number."""
    noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(noise)


def picture_bytes(number: int, format: str = "PNG", size: tuple[int, int] = (24, 40)) -> bytes:
    file = io.BytesIO()
    picture(number, size).save(file, format)
    return file.getvalue()


def write_pictures(folder: pathlib.Path, names) -> None:
    """Files below a folder, {name: number of its picture}, or a list of names."""
    if not isinstance(names, dict):
        names = {name: number for number, name in enumerate(names)}
    for name, number in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture_bytes(number))


def snapshot(db, retriever: Retriever) -> dict:
    """All that a gallery holds: {(path, box): (record, vector, tokens)}."""
    with Gallery.open(db, retriever) as gallery:
        pictures = gallery.pictures()
        vectors = gallery.embeddings_of([picture.id for picture in pictures])
        tokens = gallery.tokens_of(pictures) if pictures else ()
    return {(p.path, p.box): (p, v, t) for p, v, t in zip(pictures, vectors, tokens, strict=True)}


def held_by(found: dict) -> dict:
    """A snapshot that `==` compares, to the bit."""
    return {key: (p, v.tobytes(), t.tobytes()) for key, (p, v, t) in found.items()}


def counts(report):
    names = ("new", "changed", "moved", "unchanged", "removed", "forgotten", "missing")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def id_of(db, path):
    """The id of the one picture of a file."""
    with Gallery.open(db) as gallery:
        (id,) = [picture.id for picture in gallery.pictures() if picture.path == str(path)]
    return id


def alone(retriever, *numbers):
    """Vectors of pictures as the network gives them without any gallery."""
    return retriever.encode_images([picture(n) for n in numbers])
