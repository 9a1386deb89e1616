"""A gallery opened for reading, with the model that encoded it."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from cada_jax.common.compilation_cache import enable_compilation_cache
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.retrieval.searchable import Searchable
from cada_jax.retriever import Retriever, load_model


class Opened(NamedTuple):
    """What is searched, and by what."""

    retriever: Retriever
    gallery: Searchable


@contextlib.contextmanager
def open_gallery(db: str, model: str) -> Iterator[Opened]:
    """Yields a gallery and its model; the gallery is closed at the end of the `with` block.

    Args:
      db: a folder, or the URI of a Milvus server.
      model: a model folder or "pretrained:NAME"; "" for the one that the gallery names.

    Raises:
      MissingFileError: the gallery or the model is not there.
      UsageError: the gallery names no model, or it was encoded by another one.
    """
    from cada_jax.gallery.gallery import Gallery

    enable_compilation_cache()
    if model:
        retriever = load_model(model)
    else:
        with Gallery.open(db) as gallery:
            model = recorded_model(db, gallery.summary())
        retriever = load_recorded(db, model)
    with Gallery.open(db, retriever) as gallery:
        yield Opened(retriever, gallery)


def recorded_model(db: str, summary: dict) -> str:
    """Where the model that encoded a gallery lay when it was indexed.

    Args:
      db: named in the message.
      summary: of the gallery.

    Raises:
      UsageError: nothing is recorded.
    """
    if model := summary.get("model_path"):
        return model
    raise UsageError(
        f"--db={db}: the gallery does not say which model encoded it: expected --model=DIR or "
        "--model=pretrained:NAME"
    )


def load_recorded(db: str, model: str) -> Retriever:
    """Loads the model that a gallery names.

    Args:
      db: named in the message.
      model: from `recorded_model`.

    Raises:
      MissingFileError: it is no longer there.
    """
    try:
        return load_model(model)
    except MissingFileError as e:
        raise MissingFileError(
            f"--db={db}: the gallery was indexed with the model {model}, which is no longer there: "
            "expected --model=DIR with the folder that it was moved to"
        ) from e
