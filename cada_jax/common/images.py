"""Picture files as people keep them, to pixels. Everything that reads a picture reads it here.

Training, evaluation, search and the gallery see the same pixels of a file, to the bit: they all
decode and resize by this module, which is Pillow.

Accepted are JPEG, MPO (camera JPEGs), PNG, BMP, WebP, TIFF, GIF and AVIF, and HEIC/HEIF where
`pillow-heif` is installed; of several pictures in a file, the first. What becomes of the rest:

  EXIF rotation: applied. Unreadable EXIF data count as none.
  transparency: dropped; a pixel keeps the colour that is stored for it.
  16 bits a channel: the upper 8 are kept.
  CMYK, YCbCr, grey, palette, 1 bit: converted by Pillow's own rules.
  colour profiles and gamma: ignored.
"""

import contextlib
import functools
import io
import os
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from cada_jax.common.errors import UsageError
from cada_jax.common.files import read_bytes

# Pillow warns of damaged metadata, which nothing here needs. A filter for each call would not do:
# `warnings.catch_warnings` changes the filters of all threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "AVIF")  # an MPO begins as a JPEG
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


@functools.cache
def _formats() -> tuple[str, ...]:
    """What can be read here; registers the reader of HEIC with Pillow, if it is installed."""
    try:
        import pillow_heif
    except ImportError:
        return FORMATS
    pillow_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


@contextlib.contextmanager
def open_picture(data: bytes) -> Iterator[Image.Image]:
    """Yields the first picture of encoded bytes, its pixels not read yet.

    Everything that a decoder raises inside the `with` block becomes a `PictureError`.

    Raises:
      PictureError: no picture, one of another format, damaged, or (`TooManyPixelsError`) of more
        than `MOST_PIXELS`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise TooManyPixelsError(f"{width} x {height} pixels")
            yield image
    except (PictureError, KeyboardInterrupt):
        raise
    except Image.DecompressionBombError as err:
        raise TooManyPixelsError("more pixels") from err
    except UnidentifiedImageError as err:  # its text holds an address in memory
        raise PictureError(_why_not_opened(data)) from err
    except Exception as err:  # decoders of foreign bytes raise nearly every built-in exception
        text = " ".join(str(err).split()) or type(err).__name__
        raise PictureError(f"cannot be decoded ({text})") from err


_KINDS = {  # what is no picture, or none that is read here, by its first bytes
    b"\x00\x05\x16\x07": "macOS companion file",
    b"version https://git-lfs": "Git LFS pointer (run git lfs pull)",
    b"<": "web page or XML",
    b"\x1f\x8b": "gzip archive",
    b"PK\x03\x04": "zip archive",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"\x1aE\xdf\xa3": "MKV or WebM",
    b"\x00\x00\x01\xba": "MPEG",
    b"\x00\x00\x01\x00": "icon",
}
_BRANDS = {  # of a file whose first box is ftyp, by the first three letters
    **dict.fromkeys((b"hei", b"hev", b"mif", b"msf"), "HEIC"),
    b"avi": "AVIF",
    b"qt ": "MOV",
}


def what_it_is(data: bytes) -> str:
    """Returns what encoded bytes are that cannot be opened: "MP4", "HEIC", "PDF", "empty".

    Args:
      data: of the file; its first 64 bytes are enough.
    """
    if not data.strip():
        return "empty"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:11], "MP4")
    if data[:4] == b"RIFF" and data[8:11] == b"AVI":
        return "AVI"
    start = data[:64].lstrip()
    known = (kind for magic, kind in _KINDS.items() if start.startswith(magic))
    return next(known, "no image file, or its beginning is damaged")


def _why_not_opened(data: bytes) -> str:
    kind = what_it_is(data)
    if kind == "HEIC" and "HEIF" not in _formats():
        return "is HEIC: pip install pillow-heif to have it read, or save it as JPEG"
    damaged = "damaged " if kind in ("HEIC", "AVIF") else ""
    return f"cannot be decoded (it is {damaged}{kind})"


def orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 (upright) where it is absent or unreadable."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata raise nearly every built-in exception
        return 1
    return value if value in range(1, 9) else 1


def rgb_image(image: Image.Image) -> Image.Image:
    """Returns an opened picture with three channels of 8 bits, upright.

    Raises:
      PictureError: its pixels are no colours (32-bit integers or floats).
    """
    image.load()
    # Not by ImageOps.exif_transpose, which writes the other EXIF data anew: damage there fails it.
    turn = _TURNS.get(orientation(image))
    mode, kind = image.mode, image.format
    if turn is not None:
        image = image.transpose(turn)
    if mode.startswith("I;16") or (mode == "I" and kind == "PNG"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if mode in ("I", "F"):
        raise PictureError("has 32 bits a pixel: save it with 8 bits a channel")
    if mode in ("La", "RGBa"):  # colours multiplied by their opacity
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    return image if mode == "RGB" else image.convert("RGB")


def rgb_pixels(image: Image.Image) -> np.ndarray:
    """Returns `rgb_image` as uint8 [H,W,3]."""
    return np.array(rgb_image(image))


def resized(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Resizes a picture: bilinear, antialiased, the shape not kept.

    Args:
      image: of mode RGB.
      size: (height, width) in pixels.

    Returns:
      uint8 [height, width, 3].
    """
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def read_resized(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """Decodes encoded bytes and resizes them to (height, width): uint8 [height, width, 3].

    Raises:
      PictureError: as of `open_picture`.
    """
    with open_picture(data) as image:
        return resized(rgb_image(image), size)


def check_decodes(data: bytes) -> None:
    """Raises PictureError where `read_rgb` would, in half of the time for a JPEG."""
    with open_picture(data) as image:
        # An eighth of the size: all of the file is decoded, which is what can fail, and most of the
        # inverse transform of its blocks is left out. Only JPEGs have that choice of Pillow's.
        if image.format in ("JPEG", "MPO"):
            image.draft(None, (1, 1))
        rgb_image(image)


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
        source = read_bytes(source, "a picture")
    try:
        with open_picture(source) as image:
            return rgb_pixels(image)
    except PictureError as err:
        raise UsageError(f"image {name or 'bytes'} {err}") from err


def encode_png(pixels: np.ndarray) -> bytes:
    """Returns uint8 [H,W,3] as a PNG file: lossless."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
