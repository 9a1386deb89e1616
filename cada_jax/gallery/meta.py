"""What a gallery keeps about itself: the model that encoded it, and where its tokens are."""

import contextlib
import dataclasses
import json
import shutil
from typing import Any

from cada_jax.common.errors import UsageError
from cada_jax.gallery.place import Place
from cada_jax.gallery.token_store import TokenStore
from cada_jax.gallery.vector_index import EXACT
from cada_jax.gallery.vectors import META, Vectors
from cada_jax.retriever import Retriever

SUMMARY, EXCLUDED = "summary", "excluded/"  # names in the gallery's state
STORE, RECOMPUTE = "store", "recompute"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Meta:
    """What a gallery knows of the model that encoded it.

    Attributes:
      model: SHA-256 of the parameters, `Retriever.digest`.
      model_path: where it lay; a folder or "pretrained:NAME".
      width: E.
      image_size: height and width in pixels that the model reads.
      tokens: "store" or "recompute".
      token_place: folder or bucket of the tokens, "tokens" for the gallery's own, "" where they
        are computed again.
      vector_index: one of `vector_index.INDEXES`.
      shards: parts of the collection on a server.
      format: of the gallery.
    """

    model: str
    model_path: str
    width: int
    image_size: list[int]
    tokens: str
    token_place: str
    vector_index: str = EXACT
    shards: int = 1
    format: int = FORMAT


def read_meta(vectors: Vectors) -> Meta:
    """Reads what `Gallery` keeps of its model.

    Raises:
      UsageError: it is missing or of a newer format.
    """
    values = json.loads(vectors.text(META) or "{}")
    if values.get("format") != FORMAT:
        raise UsageError(
            f"{vectors.place.name} is a gallery of format {values.get('format')!r}, and this "
            f"version reads {FORMAT}: use the version of cada_jax that made it, or --reindex"
        )
    return Meta(**values)


def check_model(meta: Meta, retriever: Retriever, name: str) -> None:
    """Raises UsageError unless a model encoded the gallery `name`."""
    size = list(retriever.config.data.image_size)
    if meta.model != retriever.digest or list(meta.image_size) != size:
        raise UsageError(
            f"{name} was indexed by the model {meta.model[:12]} ({meta.model_path}, images of "
            f"{meta.image_size}), and the one given is {retriever.digest[:12]} (images of {size}): "
            "their vectors cannot be compared. Give that model, or index again with --reindex"
        )


def new_meta(retriever: Retriever, **rest: Any) -> Meta:
    """What a new gallery keeps of its model.

    Args:
      retriever: the model.
      **rest: the other attributes of `Meta`.
    """
    return Meta(
        model=retriever.digest,
        width=int(retriever.config.model.embed_dim),
        image_size=list(retriever.config.data.image_size),
        **rest,
    )


def create(place: Place, vectors: Vectors, meta: Meta) -> None:
    """Makes an empty gallery; an older one in its place is dropped, its tokens too.

    What was forgotten stays forgotten.
    """
    if vectors.exists():
        with contextlib.suppress(UsageError):  # of a format that this version does not read
            old = read_meta(vectors)
            if old.token_place:
                store = TokenStore(place.tokens_at(old.token_place))
                store.remove(store.keys())
    if place.folder:
        shutil.rmtree(place.folder / "thumbnails", ignore_errors=True)
    vectors.create(meta.width, meta.vector_index, meta.shards)
    vectors.drop_state([SUMMARY])
    vectors.set_state({META: json.dumps(dataclasses.asdict(meta))})
