"""Small JPEG files of indexed pictures, made when they are asked for and kept in memory alone.

So nothing of a picture that is forgotten stays on a disk, and none appears in an indexed folder.
"""

import functools
import io
import os

import numpy as np
from PIL import Image

from cada_jax.gallery.photo import crop_of
from cada_jax.retrieval.searchable import Picture

MOST_KEPT = 4096  # thumbnails of some 13 kB
SIZE = (480, 320)  # most width and height in pixels
QUALITY = 85


def jpeg(pixels: np.ndarray | Image.Image, most: tuple[int, int] = SIZE) -> bytes:
    """Pixels, uint8 [H,W,3], as a JPEG file, no larger than (width, height), its shape kept."""
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels.copy()
    image.thumbnail(most, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def thumbnail(picture: Picture) -> bytes:
    """The picture, the person's box or the whole, as a JPEG file.

    Raises:
      GoneError: its file is gone, or is no longer what was indexed.
    """
    return _thumbnail(picture, _state(picture.path))


@functools.lru_cache(MOST_KEPT)
def _thumbnail(picture: Picture, state: tuple) -> bytes:
    return jpeg(crop_of(picture))


def _state(path: str) -> tuple:
    """What changes when a file is replaced: the last of these cannot be set by a program."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
