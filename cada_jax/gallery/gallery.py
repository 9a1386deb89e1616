"""A gallery of one's own pictures: what `cada index` makes, searched by `Retriever.search`.

    with open_gallery(db, model) as (retriever, gallery):          # gallery.opening
        query = Query("a man in red", filter=Filter.read(texts), k=20, offset=20)
        hits = [hit.to_dict() for hit in retriever.search(query, gallery)]
        gallery.thumbnail(gallery.picture(hits[0]["id"]))

A gallery is open for reading while another process writes. Searches and records see each change
when it is complete, and the results of one search are of one state. Every method may be called from
several threads at a time.

G pictures, E embedding width, S image tokens, Dv their width.
"""

import contextlib
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from cada_jax.common.errors import UsageError
from cada_jax.gallery import thumbnails
from cada_jax.gallery.index import IndexOptions, Report, index_pictures
from cada_jax.gallery.photo import content_of, crop_of, picture_bytes
from cada_jax.gallery.store import RECOMPUTE, Meta, Store
from cada_jax.gallery.store.opening import alone, open_store
from cada_jax.gallery.uri import GalleryUri
from cada_jax.retrieval.filter import Filter
from cada_jax.retrieval.searchable import Neighbor, Picture
from cada_jax.retriever import Retriever


class Gallery:
    """An index of pictures; a `retrieval.searchable.Searchable`. See `open` and `index`.

    Attributes:
      store: where it is kept.
      retriever: the model that searches it, None for looking at records alone.
      meta: what is known of the model that encoded it.
      report: what `index` did, None after `open`.
    """

    def __init__(self, store: Store, retriever: Retriever | None = None):
        self.store, self.retriever = store, retriever
        self.meta: Meta = store.meta()
        self.report: Report | None = None
        self._held = contextlib.ExitStack()  # of what is let go at the end
        self._summary: tuple[int, dict] = -1, {}
        if retriever is not None:
            self.meta.check(retriever, store.name)

    @classmethod
    def open(
        cls, db: str | os.PathLike, retriever: Retriever | None = None, read_only: bool = True
    ) -> "Gallery":
        """Opens a gallery that `index` made.

        Args:
          db: its file, or "http://HOST:PORT#COLLECTION" of a Milvus server.
          retriever: the model that searches it.
          read_only: False to change it; one process at a time may.

        Raises:
          MissingFileError: there is no gallery.
          UsageError: another process changes it, another model encoded it, or it is damaged.
        """
        uri = GalleryUri.read(db)
        with contextlib.ExitStack() as stack:
            if not read_only:
                stack.enter_context(alone(uri))
            store = open_store(uri, writes=not read_only)
            stack.callback(store.close)
            gallery = cls(store, retriever)
            gallery._held = stack.pop_all()
        return gallery

    @classmethod
    def index(
        cls,
        db: str | os.PathLike,
        images: Sequence[str | os.PathLike] | str | os.PathLike,
        retriever: Retriever,
        options: IndexOptions | None = None,
    ) -> "Gallery":
        """Makes a gallery of pictures, folders or files, or brings it up to date with them.

        Returns:
          The gallery, open; `gallery.report` tells what was done.

        Raises:
          UsageError: as of `open`; or a folder is missing, or the options do not fit.
        """
        paths = [images] if isinstance(images, str | os.PathLike) else list(images)
        report = index_pictures(db, paths, retriever, options or IndexOptions())
        gallery = cls.open(db, retriever)
        gallery.report = report
        return gallery

    def close(self) -> None:
        """Lets go of it."""
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
        return len(self.store)

    def changes(self) -> int:
        """Another number after every change of the gallery; asking costs next to nothing."""
        return self.store.changes()

    def nearest(self, embeddings: np.ndarray, k: int, filter: Filter) -> list[list[Neighbor]]:
        """The k most similar pictures that a filter admits, see `Store.nearest`.

        Where tokens are computed again, a picture whose file is gone or was changed is left out.
        """
        self.changes()  # also notices a file that was moved away
        found = self.store.nearest(embeddings, k, filter, self._model().mesh)
        if self.meta.tokens == RECOMPUTE:
            found = [[n for n in line if is_current(n.picture)] for line in found]
        return found

    def _model(self) -> Retriever:
        if self.retriever is None:
            raise UsageError(f"{self.store.name}: open the gallery with its model to search it")
        return self.retriever

    def embeddings_of(self, ids: Sequence[str]) -> np.ndarray:
        """Embeddings float32 [n,E] of length 1; a UsageError names an id that is not there."""
        found = self.store.encoded(ids)
        vectors = [self._known(id, found).vector for id in ids]
        return np.array(vectors, np.float32).reshape(-1, self.meta.width)

    def pictures(self, ids: Sequence[str] | None = None) -> list[Picture]:
        """Records, all of them or those of ids; a UsageError names an id that is not there."""
        found = self.store.rows(ids)
        return list(found.values()) if ids is None else [self._known(id, found) for id in ids]

    def picture(self, id: str) -> Picture:
        """The record of one picture; a UsageError names an id that is not there."""
        return self.pictures([id])[0]

    def _known(self, id: str, found: dict[str, Any]) -> Any:
        if id not in found:
            raise UsageError(f"{self.store.name}: there is no picture with the id {id[:64]!r}")
        return found[id]

    def tokens_of(self, pictures: Sequence[Picture]) -> np.ndarray:
        """Image tokens [n,S,Dv] in the model's dtype, of pictures of this gallery.

        Those that are not kept, or are damaged, are computed again from the file. A GoneError tells
        that one is no longer what was indexed.
        """
        tokens = self.store.tokens(pictures)
        missing = [i for i, found in enumerate(tokens) if found is None]
        if missing:
            if self.meta.tokens != RECOMPUTE:
                text = "%s: %d image tokens are missing or damaged, and computed again"
                logging.getLogger(__name__).warning(text, self.store.name, len(missing))
            crops = [crop_of(pictures[i]) for i in missing]
            for i, computed in zip(missing, self._model().encode_images(crops).tokens, strict=True):
                tokens[i] = computed
        return np.stack([np.asarray(one, self._model().config.model.dtype) for one in tokens])

    def thumbnail(self, picture: Picture) -> bytes:
        """A JPEG file of at most 480 x 320 pixels; raises GoneError, see `thumbnails`."""
        return thumbnails.thumbnail(picture)

    def summary(self) -> dict[str, Any]:
        """What the gallery holds.

        pictures, files: numbers; folders, cameras: names, the most frequent ones; first_taken,
        last_taken: seconds since 1970, None without a picture; model, model_path, tokens: as of
        `Meta`.
        """
        changes = self.changes()
        if self._summary[0] != changes:
            self._summary = changes, self.store.summary()
        meta = {name: getattr(self.meta, name) for name in ("model", "model_path", "tokens")}
        return self._summary[1] | meta


def is_current(picture: Picture) -> bool:
    """Whether a file holds what was indexed; it is read only if its size or times are others."""
    try:
        found = os.stat(picture.path)
        state = found.st_size, found.st_mtime_ns, found.st_ctime_ns
        return state == (picture.size, picture.modified_ns, picture.changed_ns) or (
            content_of(picture_bytes(picture.path)) == picture.content
        )
    except (OSError, ValueError):  # a UsageError is one of these
        return False
