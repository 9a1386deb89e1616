"""Images of any kind to the pixels that the network reads."""

import os

import numpy as np
from PIL import Image

from cada_jax.common.errors import MissingFileError, UsageError


def name_of(image) -> str:
    """What an image is called: its path, "" where it is no file."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else ""


def pixels_of(image, size: tuple[int, int]) -> np.ndarray:
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
        image = Image.fromarray(image)
    elif not isinstance(image, Image.Image):
        image = _read(image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _read(path: str | os.PathLike) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError as e:
        raise MissingFileError(f"{path}: there is no such image") from e
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise UsageError(f"{path} cannot be read as an image: {e}") from e
