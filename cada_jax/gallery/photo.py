"""One picture file: its pixels, what its bytes hash to, when and with what it was taken."""

import dataclasses
import datetime
import hashlib
import math
import re

import numpy as np
from PIL import ExifTags, Image

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.images import PictureError, open_picture, rgb_pixels

SMALLEST = 8  # pixels on a side; less shows nobody
LONGEST_CAMERA = 200  # characters of its name
_BASE, _EXIF = ExifTags.Base, ExifTags.IFD.Exif


@dataclasses.dataclass(frozen=True)
class Photo:
    """What a file holds.

    Attributes:
      pixels: uint8 [H,W,3], upright.
      content: SHA-256 of the bytes.
      taken: seconds since 1970 in UTC. EXIF's time of exposure, local time unless it says
        otherwise; the file's time of modification without one.
      camera: EXIF's make and model, or what the path says; "" for unknown.
    """

    pixels: np.ndarray
    content: str
    taken: float
    camera: str


def compile_camera_pattern(text: str) -> re.Pattern:
    """The pattern that finds a camera in a path.

    Raises:
      UsageError: it is no regular expression, or has not exactly one group.
    """
    try:
        pattern = re.compile(text)
    except re.error as err:
        raise UsageError(f"--camera_pattern={text!r}: no regular expression: {err}") from err
    if pattern.groups != 1:
        raise UsageError(
            f"--camera_pattern={text!r}: expected one group, as in '_c([0-9]+)', found "
            f"{pattern.groups}"
        )
    return pattern


def camera_of(path: str, pattern: re.Pattern) -> str:
    """What the group of a pattern finds in a path, at most 200 characters; "" for nothing."""
    found = pattern.search(path)
    return ((found.group(1) or "") if found else "")[:LONGEST_CAMERA]


def _file_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as err:
        raise MissingFileError(f"{path!r} is no longer there") from err
    except OSError as err:
        raise UsageError(f"{path!r} cannot be read ({err.strerror})") from err


def content_of(path: str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
      UsageError: it cannot be read.
    """
    return hashlib.sha256(_file_bytes(path)).hexdigest()


def read_photo(path: str, modified_ns: int, camera_pattern: re.Pattern | None = None) -> Photo:
    """Reads a file once: the bytes that are hashed are those that are decoded.

    Args:
      path: of the file.
      modified_ns: its time of modification.
      camera_pattern: finds the camera in the path.

    Raises:
      UsageError: it cannot be read or decoded; the message does not name it twice.
    """
    data = _file_bytes(path)
    try:
        with open_picture(data) as image:
            pixels = rgb_pixels(image)
            taken, camera = _exif(image)
    except PictureError as err:
        raise UsageError(f"the picture {err}") from err
    if camera_pattern is not None:
        camera = camera_of(path, camera_pattern)
    return Photo(
        pixels=pixels,
        content=hashlib.sha256(data).hexdigest(),
        taken=modified_ns / 1e9 if taken is None else taken,
        camera=camera,
    )


def _exif(image: Image.Image) -> tuple[float | None, str]:
    """(time of exposure, camera) of a picture; (None, "") where its EXIF data tell nothing."""
    try:
        exif = image.getexif()
        inner = exif.get_ifd(_EXIF)
        when = inner.get(_BASE.DateTimeOriginal) or exif.get(_BASE.DateTime)
        offset = inner.get(_BASE.OffsetTimeOriginal) or inner.get(_BASE.OffsetTime)
        return _seconds(when, offset), _camera(exif.get(_BASE.Make), exif.get(_BASE.Model))
    except Exception:  # damaged metadata raise nearly every built-in exception
        return None, ""


def _seconds(when: object, offset: object) -> float | None:
    """EXIF's "2026:05:31 18:00:00" in seconds since 1970, None for anything else."""
    if not isinstance(when, str):
        return None
    try:
        moment = datetime.datetime.strptime(when.strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    zone = re.fullmatch(r"([+-])(\d\d):(\d\d)", str(offset).strip("\0 "))
    if zone and int(zone[2]) < 24:
        minutes = int(zone[1] + "1") * (60 * int(zone[2]) + int(zone[3]))
        moment = moment.replace(tzinfo=datetime.timezone(datetime.timedelta(minutes=minutes)))
    try:
        return moment.timestamp()
    except (OverflowError, OSError, ValueError):
        return None


def _camera(make: object, model: object) -> str:
    texts = [_clean(text) for text in (make, model) if isinstance(text, str)]
    texts = [text for text in texts if text]
    if len(texts) == 2 and texts[1].lower().startswith(texts[0].lower()):
        texts = texts[1:]
    return " ".join(texts)[:LONGEST_CAMERA].strip()


def _clean(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.encode("utf-8", "replace").decode("utf-8").split())


def crop(pixels: np.ndarray, box: tuple[float, float, float, float] | None) -> np.ndarray:
    """The part of a picture in a box, rounded outward and clipped to the picture.

    Args:
      pixels: uint8 [H,W,3].
      box: x, y, width, height in pixels; None for the whole.

    Raises:
      UsageError: fewer than 8 pixels on a side are left.
    """
    if box is None:
        return pixels
    if not all(map(math.isfinite, box)):
        raise UsageError(f"the box {list(box)} has a number that is not finite")
    x, y, width, height = box
    left, top = max(math.floor(x), 0), max(math.floor(y), 0)
    right = min(math.ceil(x + width), pixels.shape[1])
    bottom = min(math.ceil(y + height), pixels.shape[0])
    if right - left < SMALLEST or bottom - top < SMALLEST:
        raise UsageError(
            f"the box {list(box)} leaves {max(right - left, 0)} x {max(bottom - top, 0)} pixels of "
            f"a picture of {pixels.shape[1]} x {pixels.shape[0]}: expected {SMALLEST} on a side"
        )
    return pixels[top:bottom, left:right]
