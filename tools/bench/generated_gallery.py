"""Writes a gallery of random vectors for `serve_load`: no picture has to be encoded.

    python -m tools.bench.generated_gallery --db=generated.db --count=100000
    python -m cada_jax serve --db=generated.db

Embeddings are random directions; image tokens are random numbers in bfloat16 of the shape that the
model's own have. Searching and re-ranking cost what they cost on photographs. The pictures have no
files, so only searches can be asked for.
"""

import argparse
import contextlib
import hashlib
import json
import sys

import numpy as np

from cada_jax.common.command_line import DONE, run_command
from cada_jax.common.console import progress_bar
from cada_jax.common.errors import UsageError
from cada_jax.gallery import meta as meta_lib
from cada_jax.gallery import place as place_lib
from cada_jax.gallery import records
from cada_jax.gallery.gallery import open_vectors
from cada_jax.gallery.summary import summarize
from cada_jax.gallery.token_store import TokenStore
from cada_jax.retrieval.searchable import Picture
from cada_jax.retriever import Retriever, load_model
from tools import arguments

BLOCK = 2_000  # pictures written at once


def picture(number: int) -> Picture:
    """The record of a picture that has no file."""
    path = f"/generated/{number // 1000:04d}/{number:07d}.jpg"
    return Picture(
        id=records.picture_id(path, None),
        path=path,
        content=hashlib.sha256(path.encode()).hexdigest(),
        taken=1.7e9 + 60.0 * number,
        camera=f"camera {number % 8}",
    )


def write_gallery(db: str, retriever: Retriever, model: str, count: int) -> None:
    """Makes a gallery of random pictures; the same count gives the same.

    Args:
      db: a new folder.
      retriever: gives the shapes and the digest.
      model: what the gallery records as the place of its model.
      count: of pictures.

    Raises:
      UsageError: something lies there, or it cannot be written.
    """
    place = place_lib.place_of(db)
    if place.folder is None:
        raise UsageError(f"--db={place.shown_uri}: expected a folder, where the tokens lie, too")
    place_lib.make_folder(place.folder)
    with contextlib.ExitStack() as stack:
        vectors = open_vectors(place, stack)
        if vectors.exists():
            raise UsageError(f"--db={db}: there is a gallery already: choose another place")
        tokens = TokenStore(place.tokens_at(place_lib.TOKENS))
        meta = meta_lib.new_meta(
            retriever, model_path=model, tokens=meta_lib.STORE, token_place=place_lib.TOKENS
        )
        meta_lib.create(place, vectors, meta)
        size = tuple(retriever.config.data.image_size)
        shape = retriever.encode_images([np.zeros((*size, 3), np.uint8)]).tokens.shape[1:]
        draw = np.random.default_rng(0)
        blocks = range(0, count, BLOCK)
        for begin in progress_bar(blocks, len(blocks), "write vectors and tokens"):
            some = [picture(number) for number in range(begin, min(begin + BLOCK, count))]
            random = draw.standard_normal((len(some), meta.width), np.float32)
            random /= np.linalg.norm(random, axis=1, keepdims=True)
            keys = [records.token_key(p.content, p.box) for p in some]
            tokens.write({key: draw.standard_normal(shape, np.float32) for key in keys})
            vectors.add([records.to_row(p, v) for p, v in zip(some, random, strict=True)])
        summary = json.dumps(summarize(picture(number) for number in range(count)))
        vectors.set_state({meta_lib.SUMMARY: summary})
        vectors.flush()


def main(argv: list[str] | None = None) -> int:
    """Parses the flags and writes; returns the exit status."""
    return run_command(lambda: _write(_parse(argv)))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = arguments.Parser("tools.bench.generated_gallery", __doc__)
    parser.add_argument("--db", required=True, help="a new folder")
    parser.add_argument("--count", type=arguments.integer(1), default=100_000, help="of pictures")
    parser.add_argument("--model", default="pretrained:synthetic", help="gives the shapes")
    return parser.flags(argv)


def _write(flags: argparse.Namespace) -> int:
    write_gallery(flags.db, load_model(flags.model), flags.model, flags.count)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
