"""Picture files as people keep them, to pixels. Everything that reads a picture reads it here.

Accepted are JPEG, MPO (camera JPEGs: the first picture), PNG, BMP, WebP, TIFF and GIF (the first
picture of several). What becomes of the rest of a file:

  EXIF rotation: applied. Unreadable EXIF data count as none.
  transparency: dropped; a pixel keeps the colour that is stored for it, as in Pillow's
    `convert("RGB")` and in TensorFlow's decoder.
  16 bits a channel: the upper 8 are kept.
  CMYK, YCbCr, grey, palette, 1 bit: converted by Pillow's own rules.
  colour profiles and gamma: ignored.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cada_jax.common.errors import MissingFileError, UsageError

FORMATS = ("JPEG", "MPO", "PNG", "BMP", "WEBP", "TIFF", "GIF")
# A file of some kilobytes can ask for gigabytes of pixels. No picture of a person is that large.
MOST_PIXELS = 89_478_485  # the number that Pillow warns at
ORIENTATION = 0x0112  # EXIF tag; 1 is upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(UsageError):
    """Encoded bytes that are no usable picture; the text goes after the file's name."""


class TooManyPixelsError(PictureError):
    """The picture is too large to be decoded."""

    def __init__(self, size: str, most: int = MOST_PIXELS):
        super().__init__(f"has {size}, expected at most {most:,}: save it smaller")


@contextlib.contextmanager
def open_picture(data: bytes) -> Iterator[Image.Image]:
    """Yields the first picture of encoded bytes, its pixels not read yet.

    Everything that a decoder raises inside the `with` block becomes a `PictureError`.

    Raises:
      PictureError: no picture, one of another format, damaged, or (`TooManyPixelsError`) of more
        than `MOST_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, which nothing here needs
            with Image.open(io.BytesIO(data)) as image:
                if image.format not in FORMATS:
                    raise PictureError(f"is {image.format}, expected one of {', '.join(FORMATS)}")
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise TooManyPixelsError(f"{width} x {height} pixels")
                yield image
    except (PictureError, KeyboardInterrupt):
        raise
    except Image.DecompressionBombError as err:
        raise TooManyPixelsError("more pixels") from err
    except UnidentifiedImageError as err:  # its text holds an address in memory
        raise PictureError(f"cannot be decoded ({_what_it_is(data)})") from err
    except Exception as err:  # decoders of foreign bytes raise nearly every built-in exception
        raise PictureError(f"cannot be decoded ({str(err) or type(err).__name__})") from err


_NO_PICTURES = {
    b"<": "it is a web page or XML",
    b"\x00\x05\x16\x07": "it is a companion file of macOS, no image",
    b"version https://git-lfs": "it is a Git LFS pointer: run git lfs pull",
    b"\x1f\x8b": "it is compressed by gzip",
    b"pk\x03\x04": "it is a zip archive",
}


def _what_it_is(data: bytes) -> str:
    if not data.strip():
        return "the file is empty"
    start = data[:64].lstrip().lower()
    known = (kind for magic, kind in _NO_PICTURES.items() if start.startswith(magic))
    return next(known, "it is no image file, or its beginning is damaged")


def orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 (upright) where it is absent or unreadable."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata raise nearly every built-in exception
        return 1
    return value if value in range(1, 9) else 1


def rgb_pixels(image: Image.Image) -> np.ndarray:
    """Returns an opened picture as uint8 [H,W,3], upright.

    Raises:
      PictureError: its pixels are no colours (32-bit integers or floats).
    """
    image.load()
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format == "PNG"):
        upright = _upright(image)
        grey = (np.asarray(upright).astype(np.int64) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if mode in ("I", "F"):
        raise PictureError("has 32 bits a pixel: save it with 8 bits a channel")
    if mode in ("La", "RGBa"):  # colours multiplied by their opacity
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    return np.array(_upright(image).convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    # Not by ImageOps.exif_transpose, which writes the other EXIF data anew: damage there fails it.
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def read_rgb(source: bytes | str | os.PathLike, name: str | None = None) -> np.ndarray:
    """Reads a picture.

    Args:
      source: the encoded bytes, or the file's path.
      name: what to call it in a message, by default the path.

    Returns:
      uint8 [H,W,3].

    Raises:
      MissingFileError: there is no such file.
      UsageError: it cannot be read, is no picture, is damaged or too large.
    """
    if not isinstance(source, bytes):
        name = name or os.fspath(source)
        source = _file_bytes(Path(source).expanduser())
    try:
        with open_picture(source) as image:
            return rgb_pixels(image)
    except PictureError as err:
        raise UsageError(f"image {name or 'bytes'} {err}") from err


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as err:
        raise MissingFileError(f"image {path} does not exist") from err
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or err
        raise UsageError(f"image {path} cannot be read ({reason})") from err


def encode_png(pixels: np.ndarray) -> bytes:
    """Returns uint8 [H,W,3] as a PNG file: lossless."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
