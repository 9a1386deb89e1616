"""A gallery opened for searching, with the model that encoded it."""

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from cada_jax.common.console import say
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.gallery.gallery import Gallery
from cada_jax.retriever import Retriever, load_model


class Opened(NamedTuple):
    """What is searched, and by what."""

    retriever: Retriever
    gallery: Gallery


@contextlib.contextmanager
def open_gallery(db: str | os.PathLike, model: str = "") -> Iterator[Opened]:
    """Yields a gallery and its model; the gallery is closed at the end of the `with` block.

    Args:
      db: as of `Gallery.open`.
      model: a folder or a name; "" for the one that the gallery was indexed with last.

    Raises:
      MissingFileError: the gallery or the model is not there.
      UsageError: the gallery was encoded by another model.
    """
    with Gallery.open(db) as gallery:
        path = model or gallery.meta.model_path
    if not path:
        raise UsageError(f"--db={db}: no model is named in the gallery: expected --model=DIR")
    try:
        retriever = load_model(path)
    except MissingFileError as e:
        if model:
            raise
        raise MissingFileError(
            f"--db={db}: the gallery was indexed with the model {path}, which is no longer there: "
            "expected --model=DIR with the folder that it was moved to"
        ) from e
    if retriever.note:
        say(f"note: {retriever.note}")
    with Gallery.open(db, retriever) as gallery:
        yield Opened(retriever, gallery)
