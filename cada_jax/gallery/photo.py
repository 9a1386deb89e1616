"""One picture file: its pixels, the hash of its bytes, when it was taken, by which camera."""

import dataclasses
import datetime
import hashlib
import math
import os
import re
import stat
import unicodedata

import numpy as np
from PIL import Image

from cada_jax.common import images
from cada_jax.common.errors import UsageError
from cada_jax.common.images import PictureError
from cada_jax.gallery.results.printable import INVISIBLE

# An uncompressed picture of the most pixels, with 16 bits in four channels, is smaller.
MOST_BYTES = 1 << 30
LEAST_SIDE = 8  # pixels; less shows nobody
LONGEST_CAMERA = 128  # characters

# EXIF tags, by their names in the standard (CIPA DC-008).
_MAKE, _MODEL, _DATE_TIME = 0x010F, 0x0110, 0x0132
_EXIF_FOLDER = 0x8769
_DATE_TIME_ORIGINAL, _OFFSET_TIME, _OFFSET_TIME_ORIGINAL = 0x9003, 0x9010, 0x9011
_TAGS = (
    *(_MAKE, _MODEL, _DATE_TIME),
    *(_DATE_TIME_ORIGINAL, _OFFSET_TIME, _OFFSET_TIME_ORIGINAL),
)

_TIME = re.compile(r"\s*(\d{4})[:/-](\d\d)[:/-](\d\d)[ T](\d\d):(\d\d):(\d\d)", re.ASCII)
_OFFSET = re.compile(r"\s*(?:(Z)|([+-])(\d\d):?(\d\d))\s*\Z", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Photo:
    """A picture that was read.

    Attributes:
      pixels: uint8 [H,W,3], upright.
      content: SHA-256 of the file's bytes, 64 hexadecimal digits.
      taken: seconds since 1970 in UTC. From EXIF DateTimeOriginal, else DateTime, in the zone that
        the file states or else in this computer's; without either, the file's last change.
      camera: the group of the camera pattern in the path; else EXIF make and model; else "". At
        most 128 characters.
    """

    pixels: np.ndarray
    content: str
    taken: float
    camera: str


def read_photo(path: str, modified_ns: int, camera_pattern: re.Pattern | None = None) -> Photo:
    """Reads a picture file once: the hash is that of the very bytes that were decoded.

    Args:
      path: the file.
      modified_ns: its last change, nanoseconds since 1970; what `taken` is without EXIF.
      camera_pattern: from `compile_camera_pattern`. Where it is not found in the path, EXIF names
        the camera.

    Raises:
      PictureError: (a UsageError) the file is gone, cannot be read, is no picture, is damaged, or
        has more than 1 GiB or `images.MOST_PIXELS` pixels. Its text is the reason, one line that
        goes after the path.
    """
    data = _bytes_of(path)
    try:
        with images.open_picture(data) as image:
            # To ask for EXIF data reads a PNG's pixels. Damage to these must come out here.
            image.load()
            tags = _exif(image)
            pixels = images.rgb_pixels(image)
    except PictureError as err:
        raise PictureError(" ".join(str(err).split())) from err
    taken = _time_taken(tags)
    return Photo(
        pixels=pixels,
        content=hashlib.sha256(data).hexdigest(),
        taken=modified_ns / 1e9 if taken is None else taken,
        camera=camera_in(path, camera_pattern) or _camera_of(tags),
    )


def _bytes_of(path: str) -> bytes:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # to open a pipe waits for a writer
            raise PictureError("is no ordinary file")
        if status.st_size > MOST_BYTES:
            raise PictureError(f"has {status.st_size:,} bytes, expected at most {MOST_BYTES:,}")
        with open(path, "rb") as file:
            data = file.read()
    except PictureError:
        raise
    except (OSError, ValueError, MemoryError) as err:
        raise PictureError(_why_unreadable(err)) from err
    return data


def _why_unreadable(err: Exception) -> str:
    if isinstance(err, FileNotFoundError):
        return "is no longer there"
    return f"cannot be read ({getattr(err, 'strerror', None) or err or type(err).__name__})"


def content_of(path: str) -> str:
    """Returns the SHA-256 of a file's bytes, 64 hexadecimal digits, in constant memory.

    Raises:
      PictureError: (a UsageError) it is gone or cannot be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise PictureError("is no ordinary file")
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except PictureError:
        raise
    except (OSError, ValueError) as err:
        raise PictureError(_why_unreadable(err)) from err


def crop(pixels: np.ndarray, box: tuple[float, float, float, float] | None) -> np.ndarray:
    """Cuts a box out of a picture.

    Args:
      pixels: uint8 [H,W,3].
      box: x, y, width, height in pixels from the upper left corner. What lies outside the picture
        is cut off; pixels that it covers in part are kept. None stands for the whole picture.

    Returns:
      uint8 [h,w,3], a copy, so that the scene need not stay in memory; without a box, `pixels`.

    Raises:
      UsageError: a number is not finite, or fewer than 8 x 8 pixels remain.
    """
    if box is None:
        return pixels
    try:
        x, y, width, height = (float(value) for value in box)
    except (TypeError, ValueError, OverflowError) as err:
        raise UsageError(f"box {box!r}: expected x, y, width, height as numbers.") from err
    if not all(map(math.isfinite, (x, y, width, height))):
        raise UsageError(f"box {box!r}: expected four finite numbers x, y, width, height.")
    rows, columns = pixels.shape[:2]
    left, right = _whole(x, x + width, columns)
    top, bottom = _whole(y, y + height, rows)
    if right - left < LEAST_SIDE or bottom - top < LEAST_SIDE:
        raise UsageError(
            f"box x={x:g} y={y:g} width={width:g} height={height:g} keeps "
            f"{max(right - left, 0)} x {max(bottom - top, 0)} pixels of a picture of {columns} x "
            f"{rows}, expected at least {LEAST_SIDE} x {LEAST_SIDE}."
        )
    return pixels[top:bottom, left:right].copy()


def _whole(start: float, end: float, size: int) -> tuple[int, int]:
    """An interval clipped to 0..size, then rounded outward."""
    return math.floor(min(max(start, 0), size)), math.ceil(min(max(end, 0), size))


def compile_camera_pattern(text: str) -> re.Pattern:
    """Returns the pattern of a camera's name in a path, as `/(cam[0-9]+)/`.

    Raises:
      UsageError: no regular expression, or one without exactly one group.
    """
    example = "Write the camera's name as the only group, as in '/(cam[0-9]+)/'."
    try:
        pattern = re.compile(text)
    except (re.error, TypeError, OverflowError, RecursionError) as err:
        raise UsageError(
            f"camera_pattern: expected a regular expression, got {text!r} ({err}). {example}"
        ) from err
    if pattern.groups != 1:
        raise UsageError(
            f"camera_pattern: expected one group, got {pattern.groups} in {text!r}. {example} "
            "Brackets that are no group begin with (?: ."
        )
    return pattern


def camera_in(path: str, pattern: re.Pattern | None) -> str:
    """What the group of a pattern finds in a path, "" for nothing or without a pattern."""
    found = pattern.search(path) if pattern else None
    return _clean(found.group(1)) if found else ""


def _exif(image: Image.Image) -> dict[int, object]:
    """The EXIF tags that could be read, those of the main and of the EXIF folder in one."""
    tags: dict[int, object] = {}
    for folder in (None, _EXIF_FOLDER):
        try:
            found = image.getexif()
            part = found if folder is None else found.get_ifd(folder)
        except Exception:  # damaged metadata raise nearly every built-in exception
            continue
        for tag in _TAGS:
            try:
                if tag in part:
                    tags.setdefault(tag, part[tag])
            except Exception:  # each tag is decoded when it is asked for
                continue
    return tags


def _text(value: object) -> str:
    """A tag's text up to the NUL that ends it; "" where it is no text."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.strip("\0").split("\0")[0] if isinstance(value, str) else ""


def _clean(value: object) -> str:
    """A name in one line: control and other invisible characters become blanks."""
    text = "".join(" " if unicodedata.category(c) in INVISIBLE else c for c in _text(value))
    return " ".join(text.split())[:LONGEST_CAMERA].rstrip()


def _camera_of(tags: dict[int, object]) -> str:
    make, model = _clean(tags.get(_MAKE)), _clean(tags.get(_MODEL))
    if model.lower().startswith(make.lower()):
        return model
    return _clean(f"{make} {model}")


def _time_taken(tags: dict[int, object]) -> float | None:
    """Seconds since 1970 in UTC; None where no tag holds a time."""
    original = _text(tags.get(_OFFSET_TIME_ORIGINAL))
    changed = _text(tags.get(_OFFSET_TIME)) or original
    for tag, offset in ((_DATE_TIME_ORIGINAL, original), (_DATE_TIME, changed)):
        seconds = _seconds(_text(tags.get(tag)), offset)
        if seconds is not None:
            return seconds
    return None


def _seconds(text: str, offset: str) -> float | None:
    found = _TIME.match(text)
    if not found:
        return None
    try:
        moment = datetime.datetime(*map(int, found.groups()), tzinfo=_zone(offset))
        return moment.timestamp()
    except (ValueError, OverflowError, OSError):  # the 0th of month 0, as unset clocks write
        return None


def _zone(offset: str) -> datetime.timezone | None:
    """The zone of "+02:00"; None, this computer's zone, where the text is no offset."""
    found = _OFFSET.match(offset)
    if not found:
        return None
    zulu, sign, hours, minutes = found.groups()
    if zulu:
        return datetime.UTC
    ahead = datetime.timedelta(hours=int(hours), minutes=int(minutes))
    if ahead >= datetime.timedelta(days=1):
        return None
    return datetime.timezone(-ahead if sign == "-" else ahead)
