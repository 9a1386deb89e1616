"""A small gallery in memory over real files and the real shipped model."""

import hashlib
import pathlib
from collections.abc import Sequence

import jax

import cada_jax
from cada_jax.common.images import read_rgb
from cada_jax.data.datasets.synthetic import people
from cada_jax.retrieval.in_memory import InMemoryGallery
from cada_jax.retrieval.searchable import Picture


def write_people(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    """Files of generated people."""
    paths = []
    for example in people.generate(people.VARIANTS["tiny"], "test"):
        path = folder / f"{example.person}_{example.image}.jpg"
        path.write_bytes(example.jpeg)
        paths.append(path)
        if len(paths) == count:
            return paths
    return paths


def picture_of(path: pathlib.Path, camera: str = "", box=None) -> Picture:
    data, state = path.read_bytes(), path.stat()
    size = read_rgb(path).shape if data else (0, 0)
    return Picture(
        id=hashlib.sha256(f"{path}{box}".encode("utf-8", "surrogateescape")).hexdigest()[:32],
        path=str(path),
        content=hashlib.sha256(data).hexdigest(),
        size=state.st_size,
        modified_ns=state.st_mtime_ns,
        taken=state.st_mtime,
        camera=camera,
        height=size[0],
        width=size[1],
        box=box,
    )


class MemoryGallery(InMemoryGallery):
    """Pictures in memory, with what a gallery on disk offers."""

    def __init__(self, retriever, pictures: Sequence[Picture]):
        images = retriever.encode_images([p.path for p in pictures])
        super().__init__(images, retriever.mesh, pictures)

    def picture(self, id: str) -> Picture:
        (row,) = self._rows_of([id])
        return self._pictures[row]

    def summary(self) -> dict:
        cameras = sorted({p.camera for p in self._pictures})
        return {"pictures": len(self), "cameras": cameras, "model": self.model}


def load_retriever():
    return cada_jax.load_model("pretrained:synthetic", jax.devices()[:1])
