"""Writes a gallery of random vectors for `serve_load`: no picture is encoded.

    python -m tools.bench.generated_gallery --db=generated.db --count=100000
    python -m cada_jax serve --db=generated.db

Embeddings are random directions; image tokens are random numbers in bfloat16 of the shape that the
model's own have. Searching and re-ranking cost what they cost on photographs. The pictures have no
files, so only searches can be asked for; with --no_tokens, only those that re-rank nothing.
"""

import dataclasses
import hashlib
import sys
from collections.abc import Sequence

import numpy as np

from cada_jax.common.console import progress_bar
from cada_jax.common.errors import UsageError
from cada_jax.common.files import absolute
from cada_jax.gallery.store import STORE, Encoded, Meta, database
from cada_jax.gallery.store.opening import alone
from cada_jax.gallery.store.sqlite import SqliteStore
from cada_jax.gallery.uri import GalleryUri
from cada_jax.retrieval.searchable import Picture
from cada_jax.retriever import Retriever, load_model
from tools.arguments import Parser, command

BLOCK = 5_000  # pictures written at once


def picture(number: int) -> Picture:
    """The record of a picture that has no file."""
    path = f"/generated/{number // 1000:04d}/{number:07d}.jpg"
    content = hashlib.sha256(path.encode()).hexdigest()
    camera = f"camera {number % 8}"
    return Picture(content[:32], path, content, taken=1.7e9 + 60.0 * number, camera=camera)


def write_gallery(
    db: str, retriever: Retriever, model: str, count: int, tokens: bool = True
) -> None:
    """Makes a gallery of random pictures; the same count gives the same.

    Args:
      db: a new file.
      retriever: gives the shapes and the digest.
      model: what the gallery records as the place of its model.
      count: of pictures.
      tokens: whether image tokens are written.

    Raises:
      UsageError: something lies there, or it cannot be written.
    """
    path = absolute(db)
    if database.exists(path):
        raise UsageError(f"--db={db}: there is a gallery already: choose another place")
    database.create(path, dataclasses.asdict(Meta.of(retriever, model, STORE)))
    size = tuple(retriever.config.data.image_size)
    shape = retriever.encode_images([np.zeros((*size, 3), np.uint8)]).tokens.shape[1:]
    draw, width = np.random.default_rng(0), retriever.config.model.embed_dim
    with alone(GalleryUri(path)):
        store = SqliteStore(path, writes=True)
        blocks = range(0, count, BLOCK)
        for begin in progress_bar(blocks, len(blocks), "write vectors and tokens"):
            some = [picture(number) for number in range(begin, min(begin + BLOCK, count))]
            vectors = draw.standard_normal((len(some), width), np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            kept = [None] * len(some)
            if tokens:
                kept = draw.standard_normal((len(some), *shape), np.float32)
            store.put(list(zip(some, map(Encoded, vectors, kept), strict=True)))
        store.close()


def run(argv: Sequence[str] | None) -> int:
    """Writes what the flags name; returns the exit status."""
    parser = Parser("tools.bench.generated_gallery", __doc__)
    parser.add_argument("--db", required=True, help="a new file")
    parser.add_argument("--count", type=int, default=100_000, help="of pictures")
    parser.add_argument("--model", default="pretrained:synthetic", help="gives the shapes")
    parser.add_argument("--no_tokens", action="store_true", help="write vectors and records alone")
    flags = parser.flags(argv)
    tokens = not flags.no_tokens
    write_gallery(flags.db, load_model(flags.model), flags.model, flags.count, tokens)
    return 0


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
