"""One picture file: its pixels, the hash of its bytes, when it was taken, by which camera."""

import contextlib
import datetime
import hashlib
import math
import re
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.ExifTags import IFD, Base

from cada_jax.common import images
from cada_jax.common.errors import UsageError
from cada_jax.common.files import read_bytes
from cada_jax.retrieval.searchable import Picture

LEAST_SIDE = 8  # pixels; less shows nobody
LONGEST_CAMERA = 128  # characters
_MAKE, _MODEL, _DATE_TIME = Base.Make, Base.Model, Base.DateTime
_DATE_TIME_ORIGINAL = Base.DateTimeOriginal
_OFFSET_TIME, _OFFSET_TIME_ORIGINAL = Base.OffsetTime, Base.OffsetTimeOriginal
_TAGS = _MAKE, _MODEL, _DATE_TIME, _DATE_TIME_ORIGINAL, _OFFSET_TIME, _OFFSET_TIME_ORIGINAL
_TIME = re.compile(r"\s*(\d{4})[:/-](\d\d)[:/-](\d\d)[ T](\d\d:\d\d:\d\d)", re.ASCII)
Sides = tuple[float, float, float, float]


class GoneError(UsageError):
    """The file of an indexed picture is gone, or is no longer what was indexed."""


class Photo(NamedTuple):
    """A picture that was decoded.

    image: of mode RGB, upright; taken: seconds since 1970 in UTC, from EXIF DateTimeOriginal, else
    DateTime, in the zone that the file states or else in this computer's, and without either the
    file's last change; camera: the group of the camera pattern in the path, else EXIF make and
    model, else "", at most 128 characters.
    """

    image: Image.Image
    taken: float
    camera: str


def picture_bytes(path: str) -> bytes:
    """The bytes of a picture file; a UsageError if there are none, or more than 1 GiB."""
    return read_bytes(path, "a picture")


def content_of(data: bytes) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def decode_photo(
    data: bytes, path: str, modified_ns: int, camera_pattern: re.Pattern | None = None
) -> Photo:
    """Decodes a picture file.

    Args:
      data: its bytes.
      path: of the file.
      modified_ns: its last change, nanoseconds since 1970.
      camera_pattern: from `compile_camera_pattern`.

    Raises:
      PictureError: (a UsageError) it is no picture, is damaged, or has too many pixels. Its text is
        one line that goes after the path.
    """
    with images.open_picture(data) as opened:
        # To ask for EXIF data reads a PNG's pixels. Damage to these must come out here.
        opened.load()
        tags = _exif(opened)
        image = images.rgb_image(opened)
    taken = _time_taken(tags)
    taken = modified_ns / 1e9 if taken is None else taken
    return Photo(image, taken, camera_in(path, camera_pattern) or _camera_of(tags))


def scene_of(picture: Picture) -> np.ndarray:
    """The file of an indexed picture, uint8 [H,W,3], upright.

    Raises:
      GoneError: it is gone or cannot be read, or its bytes are no longer those that were indexed.
    """
    return np.asarray(_scene(picture))


def crop_of(picture: Picture) -> np.ndarray:
    """What was indexed of it: the person's box, or the whole scene; otherwise as `scene_of`."""
    return np.asarray(crop(_scene(picture), picture.box))


def _scene(picture: Picture) -> Image.Image:
    try:
        data = picture_bytes(picture.path)
        if picture.content and picture.content != content_of(data):
            raise UsageError(f"{picture.path}: the file has changed since it was indexed")
        with images.open_picture(data) as opened:
            return images.rgb_image(opened)
    except UsageError as err:
        path = f"{picture.path}: " if isinstance(err, images.PictureError) else ""
        raise GoneError(f"{path}{err}; index its folder again") from err


def crop(image: Image.Image, box: Sides | None) -> Image.Image:
    """Cuts a box out of a picture.

    Args:
      image: to cut.
      box: x, y, width, height in pixels from the upper left corner. What lies outside the picture
        is cut off; pixels that it covers in part are kept. None stands for the whole picture.

    Raises:
      UsageError: fewer than 8 x 8 pixels remain.
    """
    if box is None:
        return image
    left, top, right, bottom = edges = _edges(box, image.width, image.height)
    if min(right - left, bottom - top) < LEAST_SIDE:
        raise UsageError(
            f"box {', '.join(f'{side:g}' for side in box)} keeps {max(right - left, 0)} x "
            f"{max(bottom - top, 0)} pixels of a picture of {image.width} x {image.height}, "
            f"expected at least {LEAST_SIDE} x {LEAST_SIDE}"
        )
    return image.crop(edges)


def fits(box: Sides | None, picture: Picture) -> bool:
    """Whether `crop` cuts a box out of a picture of the size that this one's scene has."""
    if box is None:
        return True
    left, top, right, bottom = _edges(box, picture.width, picture.height)
    return min(right - left, bottom - top) >= LEAST_SIDE


def _edges(box: Sides, width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of what a picture has of a box, rounded outward."""
    x, y, wide, high = box
    (left, right), (top, bottom) = (
        (math.floor(min(max(start, 0), size)), math.ceil(min(max(end, 0), size)))
        for start, end, size in ((x, x + wide, width), (y, y + high, height))
    )
    return left, top, right, bottom


def compile_camera_pattern(text: str) -> re.Pattern | None:
    """The pattern of a camera's name in a path, as `/(cam[0-9]+)/`; None for "".

    Raises:
      UsageError: no regular expression, or one without exactly one group.
    """
    if not text:
        return None
    try:
        pattern = re.compile(text)
        if pattern.groups == 1:
            return pattern
        found = f"{pattern.groups} groups"
    except (re.error, OverflowError, RecursionError) as err:
        found = str(err)
    raise UsageError(
        f"camera_pattern: expected a regular expression with the camera's name as its only group, "
        f"as in '/(cam[0-9]+)/', got {text!r:.200} ({found}). (?:...) makes brackets no group."
    )


def camera_in(path: str, pattern: re.Pattern | None) -> str:
    """What the group of a pattern finds in a path, "" for nothing or without a pattern."""
    found = pattern.search(path) if pattern else None
    return _clean(found.group(1)) if found else ""


def _exif(image: Image.Image) -> dict[int, object]:
    """The EXIF tags that could be read, those of the main and of the EXIF folder in one."""
    tags: dict[int, object] = {}
    if not {"exif", "Raw profile type exif"} & image.info.keys() and image.format != "TIFF":
        return tags  # to ask Pillow for them takes as long as a fifth of decoding a small JPEG
    for folder in (None, IFD.Exif):
        with contextlib.suppress(Exception):  # damaged metadata raise nearly every exception
            found = image.getexif()
            part = found if folder is None else found.get_ifd(folder)
            for tag in _TAGS:
                with contextlib.suppress(Exception):  # each is decoded when it is asked for
                    if tag in part:
                        tags.setdefault(tag, part[tag])
    return tags


def _text(value: object) -> str:
    """A tag's text up to the NUL that ends it; "" where it is no text."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.strip("\0").split("\0")[0] if isinstance(value, str) else ""


def _clean(value: object) -> str:
    """A name in one line: control and other invisible characters become blanks."""
    text = "".join(c if c.isprintable() else " " for c in _text(value))
    return " ".join(text.split())[:LONGEST_CAMERA].rstrip()


def _camera_of(tags: dict[int, object]) -> str:
    make, model = _clean(tags.get(_MAKE)), _clean(tags.get(_MODEL))
    return model if model.lower().startswith(make.lower()) else _clean(f"{make} {model}")


def _time_taken(tags: dict[int, object]) -> float | None:
    """Seconds since 1970 in UTC; None where no tag holds a time."""
    original = _text(tags.get(_OFFSET_TIME_ORIGINAL))
    changed = _text(tags.get(_OFFSET_TIME)) or original
    for tag, offset in ((_DATE_TIME_ORIGINAL, original), (_DATE_TIME, changed)):
        if found := _TIME.match(_text(tags.get(tag))):
            year, month, day, time = found.groups()
            for zone in (offset.strip(), ""):  # a zone that is none counts as not stated
                # The 0th of month 0, as unset clocks write, is no date.
                with contextlib.suppress(ValueError, OverflowError, OSError):
                    moment = datetime.datetime.fromisoformat(f"{year}-{month}-{day}T{time}{zone}")
                    return moment.timestamp()
    return None
