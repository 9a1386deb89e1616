"""A gallery of one's own pictures, on disk or on a server: what `cada index` makes.

G pictures, E embedding width, S image tokens, Dv their width.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cada_jax.common.errors import UsageError
from cada_jax.gallery import place as place_lib
from cada_jax.gallery import records
from cada_jax.gallery.lease import Lease
from cada_jax.gallery.meta import SUMMARY, check_model, read_meta
from cada_jax.gallery.photo import crop, read_photo
from cada_jax.gallery.place import Place, place_of
from cada_jax.gallery.token_store import TokenStore
from cada_jax.gallery.vectors import Vectors
from cada_jax.retrieval.query import Where
from cada_jax.retrieval.searchable import Near, Picture
from cada_jax.retriever import Retriever

if TYPE_CHECKING:
    from cada_jax.gallery.index_options import IndexOptions, Report


class Gallery:
    """An index of pictures; a `retrieval.searchable.Searchable`. See `open` and `index`.

    Attributes:
      place: where it lies.
      meta: of its model.
      vectors: the database.
      tokens: the store of image tokens, None where they are computed again.
      report: what `index` did, None after `open`.
      thumbnail_path: id -> where its thumbnail is kept; None for a gallery on a server, whose
        thumbnails are not kept.
    """

    def __init__(
        self,
        place: Place,
        vectors: Vectors,
        retriever: Retriever | None,
        held: contextlib.ExitStack,
    ):
        self.place, self.vectors, self.retriever, self._held = place, vectors, retriever, held
        self.meta = read_meta(vectors)
        vectors.index = self.meta.vector_index
        tokens = place.tokens_at(self.meta.token_place)
        self.tokens = TokenStore(tokens) if tokens else None
        self.report: Report | None = None
        self.thumbnail_path = self._thumbnail_path if place.folder else None

    @classmethod
    def open(
        cls, db: str | os.PathLike, retriever: Retriever | None = None, read_only: bool = True
    ) -> "Gallery":
        """Opens a gallery that `index` made. A local one is held until `close`.

        Args:
          db: its folder, or "http://HOST:PORT#COLLECTION" of a Milvus server.
          retriever: the model that searches it; needed where tokens are computed again.
          read_only: False to change it: on a server too, one process does so at a time.

        Raises:
          MissingFileError: there is no gallery.
          UsageError: another process uses it, another model encoded it, or the database refuses.
        """
        place = place_of(db)
        place_lib.require_gallery(place)
        with contextlib.ExitStack() as stack:
            vectors = open_vectors(place, stack)
            if not vectors.exists():
                raise UsageError(
                    f"{place.name}: there is no gallery. Make one: python -m cada_jax index "
                    "--model=DIR --images=DIR --db=..."
                )
            if not read_only and not place.folder:
                stack.callback(Lease(vectors).release)
            gallery = cls(place, vectors, retriever, stack)
            if retriever is not None:
                check_model(gallery.meta, retriever, place.name)
            gallery._held = stack.pop_all()
        return gallery

    @classmethod
    def index(
        cls,
        db: str | os.PathLike,
        images: Sequence[str | os.PathLike] | str | os.PathLike,
        retriever: Retriever,
        options: "IndexOptions | None" = None,
    ) -> "Gallery":
        """Makes a gallery of the pictures below some folders, or brings it up to date.

        Args:
          db: a new or an existing gallery, see `open`.
          images: folders or files.
          retriever: encodes what is new.
          options: see `gallery.index_options.IndexOptions`.

        Returns:
          The gallery, open; `gallery.report` tells what was done.

        Raises:
          UsageError: as of `open`; or a folder is missing, or the options do not fit.
        """
        from cada_jax.gallery.index_options import IndexOptions
        from cada_jax.gallery.indexing import index

        paths = [images] if isinstance(images, str | os.PathLike) else list(images)
        report = index(db, paths, retriever, options or IndexOptions())
        gallery = cls.open(db, retriever)
        gallery.report = report
        return gallery

    def close(self) -> None:
        """Lets other processes open it."""
        self._held.close()

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def model(self) -> str:
        """SHA-256 of the parameters that encoded the pictures."""
        return self.meta.model

    def __len__(self) -> int:
        return self.vectors.count()

    def nearest(self, embeddings: np.ndarray, k: int, where: Where) -> list[list[Near]]:
        """The k most similar pictures that `where` admits, for every query, nearest first.

        Where tokens are computed again, a picture whose file is gone or was changed is left out.

        Args:
          embeddings: float32 [Q,E] of length 1.
          k: at most `retrieval.query.MOST_RESULTS`.
          where: filters; its folder is an absolute path.
        """
        filter = records.expression(where)
        found = self.vectors.search(embeddings, k, filter, records.FIELDS)
        near = [[Near(records.from_row(row), cosine) for cosine, row in line] for line in found]
        if self.tokens is None:
            near = [[n for n in line if is_current(n.picture)] for line in near]
        # Milvus gives equal cosines in any order.
        return [sorted(line, key=lambda n: (-n.similarity, n.picture.id)) for line in near]

    def _rows(self, ids: Sequence[str], fields: Sequence[str]) -> list[dict]:
        found = self.vectors.get(ids, fields)
        if missing := next((id for id in ids if id not in found), None):
            raise UsageError(f"{self.place.name}: there is no picture with the id {missing[:64]!r}")
        return [found[id] for id in ids]

    def embeddings_of(self, ids: Sequence[str]) -> np.ndarray:
        """Embeddings float32 [n,E] of length 1; a UsageError names an id that is not there."""
        rows = self._rows(ids, ["id", "vector"])
        return np.array([row["vector"] for row in rows], np.float32).reshape(-1, self.meta.width)

    def pictures(self, ids: Sequence[str]) -> list[Picture]:
        """Records; a UsageError names an id that is not there."""
        return [records.from_row(row) for row in self._rows(ids, records.FIELDS)]

    def picture(self, id: str) -> Picture:
        """The record of one picture; a UsageError names an id that is not there."""
        return self.pictures([id])[0]

    def all_pictures(self) -> list[Picture]:
        """Every record."""
        return [records.from_row(row) for row in self.vectors.rows(records.FIELDS)]

    def tokens_of(self, pictures: Sequence[Picture]) -> np.ndarray:
        """Image tokens [n,S,Dv] in the model's dtype, or bfloat16 without a retriever.

        Args:
          pictures: of this gallery.

        Raises:
          UsageError: tokens are missing and cannot be computed again.
        """
        keys = [records.token_key(p.content, p.box) for p in pictures]
        read = self.tokens.read(keys) if self.tokens else [None] * len(pictures)
        found = {i: tokens for i, tokens in enumerate(read) if tokens is not None}
        missing = [i for i in range(len(pictures)) if i not in found]
        if missing:
            computed = self._compute_tokens([pictures[i] for i in missing])
            found |= dict(zip(missing, computed, strict=True))
        stacked = np.stack([found[i] for i in range(len(pictures))])
        dtype = self.retriever.config.model.dtype if self.retriever else stacked.dtype
        return stacked.astype(dtype)

    def _compute_tokens(self, pictures: Sequence[Picture]) -> np.ndarray:
        if self.retriever is None:
            raise UsageError(
                f"{self.place.name}: the image tokens of {pictures[0].path!r} are not stored or "
                "damaged: open the gallery with its model, or index again"
            )
        pixels = []
        for picture in pictures:
            photo = read_photo(picture.path, picture.modified_ns)
            if photo.content != picture.content:
                raise UsageError(f"{picture.path!r} was changed after indexing: index again")
            pixels.append(crop(photo.pixels, picture.box))
        return self.retriever.encode_images(pixels).tokens

    def summary(self) -> dict[str, Any]:
        """What the gallery holds, as of the last change: see `gallery.summary`, and its model."""
        counted = json.loads(self.vectors.text(SUMMARY) or "{}")
        return counted | {
            "model": self.meta.model,
            "model_path": self.meta.model_path,
            "tokens": self.meta.tokens,
        }

    def _thumbnail_path(self, id: str) -> pathlib.Path:
        assert self.place.folder
        return self.place.folder / "thumbnails" / id[:2] / f"{id}.jpg"

    def remove_thumbnails(self, ids: Sequence[str]) -> None:
        """Deletes kept thumbnails; those never made are ignored."""
        for id in ids if self.place.folder else ():
            self._thumbnail_path(id).unlink(missing_ok=True)


def is_current(picture: Picture) -> bool:
    """Whether the file is as it was when it was indexed, by size and time of modification."""
    try:
        found = os.stat(picture.path)
    except (OSError, ValueError):
        return False
    return (found.st_size, found.st_mtime_ns) == (picture.size, picture.modified_ns)


def open_vectors(place: Place, stack: contextlib.ExitStack) -> Vectors:
    """Connects to the database of a gallery; the stack disconnects and lets go of it."""
    if place.folder:
        stack.enter_context(place_lib.held(place.folder))
    vectors = Vectors(place)
    stack.callback(vectors.close)
    return vectors
