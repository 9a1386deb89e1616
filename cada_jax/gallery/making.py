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
from cada_jax.gallery.vector_index import check_index
from cada_jax.retriever import Retriever


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
        given = options.token_store.rstrip("/")
        own = f"cada_gallery_{secrets.token_hex(8)}"
        if "://" in given:
            return f"{given}/{own}"
        return os.path.join(os.path.abspath(os.path.expanduser(given)), own)
    if place.folder is None:
        raise UsageError(
            f"--db={place.shown_uri}: the image tokens need a place too: expected --token_store="
            "FOLDER_OR_BUCKET, or --tokens=recompute"
        )
    return place_lib.TOKENS


@contextlib.contextmanager
def opened(place: Place, retriever: Retriever, options: IndexOptions) -> Iterator[Gallery]:
    """Yields the gallery for writing, made if it is not there; no other process writes meanwhile.

    Raises:
      UsageError: another process uses it, another model encoded it, or it cannot be made.
    """
    check_index(place, options.vector_index, options.shards)
    if place.folder and not place_lib.check_folder(place.folder):
        token_place(place, options)
        place_lib.make_folder(place.folder)
    with contextlib.ExitStack() as stack:
        vectors = gallery_lib.open_vectors(place, stack)
        vectors.make_state()
        if not place.folder:
            stack.callback(Lease(vectors).release)
        if options.reindex or not vectors.exists():
            where = token_place(place, options)
            meta = meta_lib.new_meta(
                retriever,
                model_path=options.model_path,
                tokens=options.tokens,
                token_place=where,
                vector_index=options.vector_index,
                shards=options.shards,
            )
            meta_lib.create(place, vectors, meta)
        gallery = Gallery(place, vectors, retriever, stack)
        meta_lib.check_model(gallery.meta, retriever, place.name)
        yield gallery
