"""A small gallery in memory over real files and the real shipped model."""

import hashlib
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

import cada_jax
from cada_jax.common.errors import UsageError
from cada_jax.common.images import read_rgb
from cada_jax.data.datasets.synthetic import people
from cada_jax.retrieval.query import Where
from cada_jax.retrieval.searchable import Near, Picture


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


class MemoryGallery:
    """Pictures in memory, with what a gallery on disk offers."""

    def __init__(self, retriever, pictures: Sequence[Picture]):
        self._pictures = {p.id: p for p in pictures}
        self.model = retriever.digest
        encoded = retriever.encode_images([p.path for p in pictures]) if pictures else None
        self._embeddings = encoded.embeddings if encoded else np.empty((0, 1), np.float32)
        self._tokens = encoded.tokens if encoded else np.empty((0, 1, 1), np.float32)
        self._rows = {p.id: i for i, p in enumerate(pictures)}

    def __len__(self) -> int:
        return len(self._pictures)

    def nearest(self, embeddings, k: int, where: Where) -> list[list[Near]]:
        pictures = list(self._pictures.values())
        similarity = embeddings @ self._embeddings.T
        return [
            [
                Near(pictures[i], float(row[i]))
                for i in np.argsort(-row)
                if _fits(pictures[i], where)
            ][:k]
            for row in similarity
        ]

    def embeddings_of(self, ids):
        return self._embeddings[[self._rows[id] for id in ids]]

    def tokens_of(self, ids):
        return self._tokens[[self._rows[id] for id in ids]]

    def picture(self, id: str) -> Picture:
        if id not in self._pictures:
            raise UsageError(f"no picture {id}")
        return self._pictures[id]

    def summary(self) -> dict:
        cameras = sorted({p.camera for p in self._pictures.values()})
        return {"pictures": len(self), "cameras": cameras, "model": self.model}


def _fits(picture: Picture, where: Where) -> bool:
    return (
        (not where.folder or picture.path.startswith(where.folder.rstrip("/") + "/"))
        and (where.since is None or picture.taken >= where.since)
        and (where.until is None or picture.taken < where.until)
        and (not where.camera or picture.camera == where.camera)
    )


def load_retriever():
    return cada_jax.load_model("pretrained:synthetic", jax.devices()[:1])
