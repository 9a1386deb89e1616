"""Images encoded in memory as something that can be searched like a gallery on disk."""

from collections.abc import Sequence

import numpy as np
from jax.sharding import Mesh

from cada_jax.common.errors import UsageError
from cada_jax.common.shapes import Bool, Float, Float32
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.filter import Filter
from cada_jax.retrieval.search import ExactSearch, power_of_four
from cada_jax.retrieval.searchable import Neighbor, Picture


class InMemoryGallery:
    """Encoded images as a `Searchable`. The id of a picture is its place, "0", "1", ...

    Args:
      mesh: where they are compared with the queries.
      pictures: the record of every image, where more is known of it than its name. Without them
        only `Filter.folder` can filter: by the names, which are taken for paths.
    """

    def __init__(
        self, images: EncodedImages, mesh: Mesh, pictures: Sequence[Picture] | None = None
    ):
        self.images = images
        self._search = ExactSearch(images.embeddings, mesh)
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
        self, embeddings: Float32[np.ndarray, "Q E"], k: int, filter: Filter
    ) -> list[list[Neighbor]]:
        """The k most similar images that a filter admits, for every query, nearest first."""
        if not len(self):
            return [[] for _ in embeddings]
        admitted = None if filter.admits_all else self._admitted(filter)
        return [
            [Neighbor(self._pictures[row], similarity) for row, similarity in found]
            for found in nearest_rows(self._search, embeddings, k, admitted)
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

    def _admitted(self, filter: Filter) -> Bool[np.ndarray, "G"]:
        """Whether a filter admits each image."""
        conditions = filter.conditions({picture.folder for picture in self._pictures})
        if not self._known and any(one.column != "folder" for one in conditions):
            raise UsageError(
                "images encoded in memory have no camera and no time: expected folder alone, or a "
                "gallery that was indexed"
            )
        admitted = [
            all(one.holds(getattr(picture, one.column)) for one in conditions)
            for picture in self._pictures
        ]
        return np.asarray(admitted, bool)


def nearest_rows(
    search: ExactSearch,
    embeddings: Float32[np.ndarray, "Q E"],
    k: int,
    admitted: Bool[np.ndarray, "G"] | None,
) -> list[list[tuple[int, float]]]:
    """(row, similarity) of the k most similar images, at most, for every query, nearest first.

    The numbers are rounded up, so that few programs are compiled for queries of different sizes.

    Args:
      search: of G >= 1 images.
      embeddings: float32 [Q,E] of length 1.
      k: at least 1.
      admitted: bool [G], None for all.
    """
    filled = np.resize(embeddings, (power_of_four(len(embeddings)), embeddings.shape[1]))
    rows, similarity = search.nearest(filled, min(power_of_four(k), len(search)), admitted)
    return [
        [
            (int(r), float(s))
            for r, s in zip(rows[q, :k], similarity[q, :k], strict=True)
            if np.isfinite(s)
        ]
        for q in range(len(embeddings))
    ]


def _pictures_of(images: EncodedImages) -> list[Picture]:
    names = images.names or [""] * len(images)
    return [
        Picture(str(row), path=name, pid=int(pid))
        for row, (name, pid) in enumerate(zip(names, images.pids, strict=True))
    ]
