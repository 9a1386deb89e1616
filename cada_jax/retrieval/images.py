"""Images of any kind to the pixels that the network reads."""

import os

import numpy as np
from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.common.images import read_rgb, resized, rgb_image
from cada_jax.common.shapes import UInt8

# A path, a picture of Pillow's, or uint8 [H,W,3].
ImageLike = str | os.PathLike | Image.Image | np.ndarray


def name_of(image: ImageLike) -> str:
    """What an image is called: its path, "" where it is no file."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else ""


def pixels_of(
    image: ImageLike, size: tuple[int, int]
) -> UInt8[np.ndarray, "{size[0]} {size[1]} 3"]:
    """Reads an image and resizes it as training does, see `common.images.resized`.

    Args:
      size: (height, width) in pixels.

    Returns:
      uint8 [height, width, 3].

    Raises:
      MissingFileError: there is no such file.
      UsageError: it is no image.
    """
    if isinstance(image, Image.Image):
        return resized(rgb_image(image), size)
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
            raise UsageError(
                f"an image is {image.dtype} {list(image.shape)}: expected uint8 [height, width, 3]"
            )
    else:
        image = read_rgb(image)
    return resized(Image.fromarray(image), size)
