"""A gallery of random vectors in memory, served for `serve_load`: no picture has to be encoded.

    python -m tools.bench.generated_gallery --count=100000 --port=8000

Embeddings are random directions; image tokens are random numbers in bfloat16 of the shape that the
model's own have. Searching and re-ranking cost what they cost on photographs. The pictures have no
files, so only searches can be asked for.
"""

import argparse
import dataclasses
import hashlib
import sys
from typing import Any

import ml_dtypes
import numpy as np

from cada_jax.common.command_line import run_command
from cada_jax.common.errors import UsageError
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.in_memory import InMemoryGallery
from cada_jax.retrieval.searchable import Picture
from cada_jax.retriever import Retriever, load_model

BLOCK = 10_000


def random_images(retriever: Retriever, count: int, seed: int = 0) -> EncodedImages:
    """Random embeddings and tokens of the model's shapes.

    Args:
      retriever: gives the shapes and the digest.
      count: of images.
      seed: the same gives the same.
    """
    size = tuple(retriever.config.data.image_size)
    one = retriever.encode_images([np.zeros((*size, 3), np.uint8)])
    draw = np.random.default_rng(seed)
    embeddings = draw.standard_normal((count, one.embeddings.shape[1]), np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    tokens = np.empty((count, *one.tokens.shape[1:]), ml_dtypes.bfloat16)
    for begin in range(0, count, BLOCK):
        part = tokens[begin : begin + BLOCK]
        part[:] = draw.standard_normal(part.shape, np.float32)
    return EncodedImages(embeddings, tokens, np.full(count, -1), model=retriever.digest)


def picture(number: int) -> Picture:
    """The record of a picture that has no file."""
    id = hashlib.sha256(str(number).encode()).hexdigest()[:32]
    path = f"/generated/{number // 1000:04d}/{number:07d}.jpg"
    return Picture(id=id, path=path, taken=1.7e9 + 60.0 * number, camera=f"camera {number % 8}")


class GeneratedGallery(InMemoryGallery):
    """Random images with records, as the server wants them.

    Args:
      retriever: whose images they could be.
      images: from `random_images`.
    """

    def __init__(self, retriever: Retriever, images: EncodedImages):
        self._records = [picture(number) for number in range(len(images))]
        super().__init__(images, retriever.mesh, self._records)

    def picture(self, id: str) -> Picture:
        """The record of a picture; a UsageError names an id that is not there."""
        row = self.row(id)
        if row < 0:
            raise UsageError(f"there is no picture {id}")
        return self._records[row]

    def summary(self) -> dict[str, Any]:
        """What the gallery holds."""
        return {"pictures": len(self), "model": self.model}


def main(argv: list[str] | None = None) -> int:
    """Parses the flags and serves; returns the exit status."""
    return run_command(lambda: _serve(_parse(argv)))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.generated_gallery",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=100_000, help="of pictures")
    parser.add_argument("--model", default="pretrained:synthetic", help="gives the shapes")
    parser.add_argument("--port", type=int, default=8000)
    return parser.parse_args(argv)


def _serve(flags: argparse.Namespace) -> int:
    from cada_jax.common.compilation_cache import enable_compilation_cache
    from cada_jax.gallery.server.device import device_of
    from cada_jax.gallery.server.run import listen, serve, url_of
    from cada_jax.gallery.server.services import Options, Services

    enable_compilation_cache()
    with listen("127.0.0.1", flags.port) as listener:
        retriever = load_model(flags.model)
        gallery = GeneratedGallery(retriever, random_images(retriever, flags.count))
        options = dataclasses.replace(Options(), image_size=tuple(retriever.config.data.image_size))
        services = Services(gallery, device_of(retriever), options)
        print(f"serving {len(gallery):,} generated pictures at {url_of(listener)}", flush=True)
        return serve(services, listener)


if __name__ == "__main__":
    sys.exit(main())
