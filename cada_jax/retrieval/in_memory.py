"""Images encoded in memory as something that can be searched like a gallery on disk."""

import pathlib
from collections.abc import Sequence

import numpy as np
from jax.sharding import Mesh

from cada_jax.common.errors import UsageError
from cada_jax.common.shapes import Float, Float32
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.query import Where
from cada_jax.retrieval.search import global_topk
from cada_jax.retrieval.searchable import Near, Picture


class InMemoryGallery:
    """Encoded images as a `Searchable`. The id of a picture is its place, "0", "1", ...

    Args:
      images: to search.
      mesh: where they are compared with the queries.
      pictures: the record of every image, where more is known of it than its name. Without them
        only `Where.folder` can filter: by the names, which are taken for paths.
    """

    def __init__(
        self, images: EncodedImages, mesh: Mesh, pictures: Sequence[Picture] | None = None
    ):
        self.images = images
        self._mesh = mesh
        self._known = pictures is not None
        self._pictures = list(pictures) if pictures is not None else _pictures_of(images)
        self._rows = {picture.id: row for row, picture in enumerate(self._pictures)}

    @property
    def model(self) -> str:
        """Digest of the parameters that encoded the images, "" for unknown."""
        return self.images.model

    def __len__(self) -> int:
        return len(self.images)

    def row(self, id: str) -> int:
        """The place of a picture among the encoded images, -1 for an unknown id."""
        return self._rows.get(id, -1)

    def nearest(
        self, embeddings: Float32[np.ndarray, "Q E"], k: int, where: Where
    ) -> list[list[Near]]:
        """The k most similar images that `where` admits, for every query, nearest first."""
        rows = np.arange(len(self)) if where.admits_all else self._admitted(where)
        searched = self.images.embeddings if where.admits_all else self.images.embeddings[rows]
        if not len(rows):
            return [[] for _ in embeddings]
        # Rounded up, so that few programs are compiled for searches of different sizes.
        count, most = len(embeddings), min(power_of_four(k), len(rows))
        filled = np.resize(embeddings, (power_of_four(count), embeddings.shape[1]))
        found, similarity = global_topk(filled, searched, most, self._mesh)
        found, similarity = found[:count, :k], similarity[:count, :k]
        return [
            [
                Near(self._pictures[row], float(s))
                for row, s in zip(rows[places], values, strict=True)
            ]
            for places, values in zip(found, similarity, strict=True)
        ]

    def embeddings_of(self, ids: Sequence[str]) -> Float32[np.ndarray, "n E"]:
        """Embeddings of length 1; a UsageError names an id that is not there."""
        return self.images.embeddings[self._rows_of(ids)]

    def tokens_of(self, pictures: Sequence[Picture]) -> Float[np.ndarray, "n S Dv"]:
        """Image tokens for the decoder, of pictures of this gallery."""
        return self.images.tokens[self._rows_of([picture.id for picture in pictures])]

    def _rows_of(self, ids: Sequence[str]) -> np.ndarray:
        if unknown := [id for id in ids if id not in self._rows]:
            raise UsageError(f"there is no picture {unknown[0]!r} in the gallery")
        return np.asarray([self._rows[id] for id in ids], int)

    def _admitted(self, where: Where) -> np.ndarray:
        """The rows of the images that `where` admits, int [n]."""
        if not self._known and (where.camera or where.since is not None or where.until is not None):
            raise UsageError(
                "images encoded in memory have no camera and no time: expected folder alone, or a "
                "gallery that was indexed"
            )
        return np.asarray([i for i, p in enumerate(self._pictures) if admits(where, p)], int)


def power_of_four(number: int) -> int:
    """The least power of four that is at least `number` >= 1."""
    return 4 ** (-(-(number - 1).bit_length() // 2))


def admits(where: Where, picture: Picture) -> bool:
    """Whether a picture passes the filters."""
    if where.folder and not (
        picture.path and pathlib.PurePath(where.folder) in pathlib.PurePath(picture.path).parents
    ):
        return False
    if where.since is not None and picture.taken < where.since:
        return False
    if where.until is not None and picture.taken >= where.until:
        return False
    return not where.camera or picture.camera == where.camera


def _pictures_of(images: EncodedImages) -> list[Picture]:
    names = images.names or [""] * len(images)
    return [
        Picture(str(row), path=name, pid=int(pid))
        for row, (name, pid) in enumerate(zip(names, images.pids, strict=True))
    ]
