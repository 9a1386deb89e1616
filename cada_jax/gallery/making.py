"""Opens a gallery for writing, and makes it where there is none."""

import contextlib
import os
import secrets
from collections.abc import Iterator

from cada_jax.common.errors import UsageError
from cada_jax.gallery import gallery as gallery_lib
from cada_jax.gallery import meta as meta_lib
from cada_jax.gallery import place as place_lib
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.index_options import IndexOptions
from cada_jax.gallery.lease import Lease
from cada_jax.gallery.place import Place
from cada_jax.gallery.vector_index import EXACT, check_index
from cada_jax.gallery.vectors import Vectors
from cada_jax.retriever import Retriever


def _place_of_tokens(given: str) -> str:
    """A folder or a bucket as it is written down."""
    given = given.rstrip("/") or given
    return given if "://" in given else os.path.abspath(os.path.expanduser(given))


def token_place(place: Place, options: IndexOptions) -> str:
    """Where the tokens of a new gallery go; "" where they are computed again.

    A folder or bucket that is given gets a folder of this gallery's own: tokens that no record of
    a gallery has are removed, and two galleries may share the bucket.

    Raises:
      UsageError: the vectors go to a server, and no place is given.
    """
    if options.tokens == meta_lib.RECOMPUTE:
        return ""
    if options.token_store:
        return f"{_place_of_tokens(options.token_store)}/cada_gallery_{secrets.token_hex(8)}"
    if place.folder is None:
        raise UsageError(
            f"--db={place.shown_uri}: the image tokens need a place too: expected --token_store="
            "FOLDER_OR_BUCKET, or --tokens=recompute"
        )
    return place_lib.TOKENS


def _check_made_with(meta: meta_lib.Meta, place: Place, options: IndexOptions) -> None:
    """Raises UsageError for an option that a gallery was made without."""
    asked = options.token_store and _place_of_tokens(options.token_store)
    for name, wished, has in (
        ("tokens", options.tokens, meta.tokens),
        ("token_store", asked, meta.token_place.rpartition("/")[0]),
        ("vector_index", options.vector_index, meta.vector_index),
        ("shards", options.shards, meta.shards),
    ):
        if wished and wished != has:
            raise UsageError(
                f"--{name}={wished}: {place.name} was made with {has or 'its own folder'}: leave "
                "the flag out, or make the gallery anew with --reindex"
            )


def _make(place: Place, vectors: Vectors, retriever: Retriever, options: IndexOptions) -> None:
    meta = meta_lib.new_meta(
        retriever,
        model_path=options.model_path,
        tokens=options.tokens or meta_lib.STORE,
        token_place=token_place(place, options),
        vector_index=options.vector_index or EXACT,
        shards=options.shards or 1,
    )
    meta_lib.create(place, vectors, meta)


@contextlib.contextmanager
def opened(place: Place, retriever: Retriever, options: IndexOptions) -> Iterator[Gallery]:
    """Yields the gallery for writing, made if it is not there; no other process writes meanwhile.

    Raises:
      UsageError: another process uses it, another model or other options made it, or it cannot be
        made.
    """
    check_index(place, options.vector_index or EXACT, options.shards or 1)
    if place.folder and not place_lib.check_folder(place.folder):
        token_place(place, options)
        place_lib.make_folder(place.folder)
    with contextlib.ExitStack() as stack:
        vectors = gallery_lib.open_vectors(place, stack)
        vectors.make_state()
        if not place.folder:
            stack.callback(Lease(vectors).release)
        if options.reindex or not vectors.exists():
            _make(place, vectors, retriever, options)
        gallery = Gallery(place, vectors, retriever, stack)
        meta_lib.check_model(gallery.meta, retriever, place.name)
        _check_made_with(gallery.meta, place, options)
        yield gallery
