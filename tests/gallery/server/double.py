"""A small gallery in memory over real files and the real shipped model.

python -m tests.gallery.server.double --port=8000      serves it, for working on the page
"""

import argparse
import hashlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

import cada_jax
from cada_jax.common.errors import UsageError
from cada_jax.common.images import read_rgb
from cada_jax.data.datasets.synthetic import people
from cada_jax.gallery.server import answers
from cada_jax.gallery.server.engine import Device
from cada_jax.gallery.server.run import listen, serve, url_of
from cada_jax.gallery.server.services import Options, Services
from cada_jax.gallery.server.watch import print_entry
from cada_jax.retrieval import association_maps
from cada_jax.retrieval.images import pixels_of
from cada_jax.retrieval.query import Query, Where
from cada_jax.retrieval.rerank import Pairs, match_pairs
from cada_jax.retrieval.searchable import Near, Picture
from cada_jax.text.tokenizer import clean_caption


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


class Hit(NamedTuple):
    picture: Picture
    similarity: float
    match_logit: float | None
    score: float


def device_of(retriever) -> Device:
    """The real model; ranking by what this package already offers."""

    def search(queries: Sequence[Query], gallery) -> list[list[Hit]]:
        return [_search(retriever, query, gallery) for query in queries]

    def associate(pixels, text, layer, head):
        return _associate(retriever, pixels, text)

    def read(pixels):
        return answers.AttributesAnswer([])

    return Device(search, associate, read)


def _search(retriever, query: Query, gallery) -> list[Hit]:
    vectors = []
    if query.texts:
        vectors.append(retriever.encode_text(list(query.texts)).embeddings.mean(0))
    if query.like is not None:
        vectors.append(retriever.encode_images([query.like]).embeddings[0])
    if query.like_id:
        vectors.append(gallery.embeddings_of([query.like_id])[0])
    vector = np.mean(vectors, 0)
    vector /= np.linalg.norm(vector)
    near = gallery.nearest(vector[None], max(query.k, query.rerank), query.where)[0]
    hits = [Hit(n.picture, n.similarity, None, n.similarity) for n in near]
    top = near[: query.rerank] if query.texts else []
    if top:
        tokens = gallery.tokens_of([n.picture.id for n in top])
        ids = retriever.encode_text(list(query.texts)).token_ids
        text, image = (i.reshape(-1) for i in np.indices((len(ids), len(top))))
        logits = match_pairs(retriever, Pairs(ids, tokens, text, image)).reshape(len(ids), -1)
        scored = [
            Hit(n.picture, n.similarity, float(logit), float(logit) + n.similarity)
            for n, logit in zip(top, logits.mean(0), strict=True)
        ]
        hits[: len(top)] = sorted(scored, key=lambda hit: -hit.score)
    least = -np.inf if query.min_score is None else query.min_score
    return [hit for hit in hits[: query.k] if hit.score >= least]


def _associate(retriever, pixels, text: str) -> answers.AssociationAnswer:
    config = retriever.config
    size = tuple(config.data.image_size)
    image = pixels_of(np.ascontiguousarray(pixels), size)
    ids, words = retriever.tokenizer.encode(clean_caption(text), config.data.max_length)
    found = association_maps.associations(retriever, image[None], ids[None])
    grid = [s // p for s, p in zip(size, config.model.image.patch, strict=True)]
    maps = found.maps(tuple(grid))[0]
    tokens = retriever.tokenizer.tokens(ids)
    layers, _, heads = found.weights.shape[:3]
    gates = None if found.gates is None else found.gates[:, 0]
    return answers.AssociationAnswer(
        grid,
        layers,
        heads,
        [
            answers.WordMap(
                tokens[i],
                None if gates is None else float(gates[:, i].mean()),
                None if gates is None else gates[:, i].tolist(),
                maps[i].tolist(),
            )
            for i in range(len(ids))
            if words[i] >= 0
        ],
    )


def load_retriever():
    return cada_jax.load_model("pretrained:synthetic", jax.devices()[:1])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--root_path", default="")
    parser.add_argument("--count", type=int, default=48)
    flags = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    retriever = load_retriever()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_people(pathlib.Path(folder), flags.count)
        pictures = [picture_of(p, f"camera {i % 3}") for i, p in enumerate(paths)]
        gallery = MemoryGallery(retriever, pictures)
        options = Options(
            root_path=flags.root_path,
            access_log=print_entry,
            image_size=tuple(retriever.config.data.image_size),
        )
        listener = listen("127.0.0.1", flags.port)
        services = Services(gallery, device_of(retriever), options)
        print(url_of(listener, flags.root_path), flush=True)
        return serve(services, listener)


if __name__ == "__main__":
    sys.exit(main())
