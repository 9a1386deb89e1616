"""Images of any kind to the pixels that the network reads."""

import os

import numpy as np
from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.common.images import read_rgb, rgb_pixels
from cada_jax.common.shapes import UInt8

# A path, a picture of Pillow's, or uint8 [H,W,3].
ImageLike = str | os.PathLike | Image.Image | np.ndarray


def name_of(image: ImageLike) -> str:
    """What an image is called: its path, "" where it is no file."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else ""


def pixels_of(
    image: ImageLike, size: tuple[int, int]
) -> UInt8[np.ndarray, "{size[0]} {size[1]} 3"]:
    """Reads an image and resizes it: bilinear, antialiased, the shape not kept.

    Args:
      image: a path, a picture of Pillow's, or uint8 [H,W,3].
      size: (height, width) in pixels.

    Returns:
      uint8 [height, width, 3].

    Raises:
      MissingFileError: there is no such file.
      UsageError: it is no image.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
            raise UsageError(
                f"an image is {image.dtype} {list(image.shape)}: expected uint8 [height, width, 3]"
            )
        pixels = image
    else:
        pixels = rgb_pixels(image) if isinstance(image, Image.Image) else read_rgb(image)
    if pixels.shape[:2] == tuple(size):
        return pixels
    resized = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized)
