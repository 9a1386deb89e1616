"""One picture file read: its pixels, hash, time and camera, or one line that says why not."""

import datetime
import hashlib
import io
import math
import os
import re
import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from cada_jax.common.errors import UsageError
from cada_jax.common.images import read_rgb
from cada_jax.gallery import photo
from cada_jax.gallery.photo import GoneError, compile_camera_pattern, crop, decode_photo, fits
from cada_jax.gallery.thumbnails import thumbnail
from cada_jax.retrieval.searchable import Picture
from tests.data import pictures

MAKE, MODEL, TIME = 0x010F, 0x0110, 0x0132
EXIF, ORIGINAL, OFFSET, OFFSET_ORIGINAL = 0x8769, 0x9003, 0x9010, 0x9011
MODIFIED = 1_500_000_000  # seconds
TINY = Image.new("RGB", (9, 8), (10, 200, 30))


def exif_of(tags: dict) -> Image.Exif:
    exif = Image.Exif()
    for tag, value in tags.items():
        (exif.get_ifd(EXIF) if tag >= ORIGINAL else exif)[tag] = value
    return exif


def read(data: bytes, pattern: str = "") -> photo.Photo:
    return decode_photo(data, "/x/a.jpg", MODIFIED * 10**9, compile_camera_pattern(pattern))


def tagged(tags: dict, kind: str = "JPEG") -> bytes:
    return pictures.encoded(TINY, kind, exif=exif_of(tags))


def utc(*numbers: int) -> float:
    return datetime.datetime(*numbers, tzinfo=datetime.UTC).timestamp()


@pytest.fixture
def in_tokyo(monkeypatch):
    """This computer's clock is 9 hours ahead of UTC."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("kind", pictures.EVERY_KIND)
def test_every_kind_of_picture_gives_its_pixels(kind):
    data = pictures.EVERY_KIND[kind]
    got = read(data)
    np.testing.assert_array_equal(np.asarray(got.image), read_rgb(data))
    assert got.taken == MODIFIED or "EXIF" in kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "MPO"])
def test_exif_data_are_read_from_every_kind_that_holds_them(kind):
    tags = {MAKE: "Make", MODEL: "Model", ORIGINAL: "2020:01:02 03:04:05", OFFSET_ORIGINAL: "Z"}
    got = read(tagged(tags, kind))
    assert (got.taken, got.camera) == (utc(2020, 1, 2, 3, 4, 5), "Make Model")


def test_exif_data_are_read_from_a_tiff():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[MAKE], tags[EXIF] = "Make", {ORIGINAL: "2020:01:02 03:04:05", OFFSET_ORIGINAL: "Z"}
    tags.tagtype[EXIF] = 4
    got = read(pictures.encoded(TINY, "TIFF", tiffinfo=tags))
    assert (got.taken, got.camera) == (utc(2020, 1, 2, 3, 4, 5), "Make")


T, T2 = "2020:01:02 03:04:05", "2021:01:02 03:04:05"
HERE = utc(2020, 1, 1, 18, 4, 5)  # T in Tokyo


@pytest.mark.parametrize(
    ("tags", "taken"),
    [
        ({ORIGINAL: T, TIME: T2}, HERE),
        ({ORIGINAL: T, OFFSET_ORIGINAL: "-03:30"}, utc(2020, 1, 2, 6, 34, 5)),
        ({ORIGINAL: T, OFFSET: "+02:00"}, HERE),
        ({TIME: T, OFFSET: "+02:00"}, utc(2020, 1, 2, 1, 4, 5)),
        ({ORIGINAL: T, OFFSET_ORIGINAL: "soon"}, HERE),
        ({ORIGINAL: "2020/01/02 03:04:05.123"}, HERE),
        ({ORIGINAL: "0000:00:00 00:00:00", TIME: T}, HERE),
        ({ORIGINAL: "0001:01:01 00:00:00", OFFSET_ORIGINAL: "+14:00"}, utc(1, 1, 1) - 50400),
        ({}, MODIFIED),
    ],
)
def test_the_time_is_that_of_the_shutter_where_the_file_states_one(in_tokyo, tags, taken):
    assert read(tagged(tags)).taken == taken


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "EOS R5", "Canon EOS R5"),
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("Can\non\x1b[31m", "EOS\t\x7f", "Can on [31m EOS"),
        ("x" * 500, "y", "x" * 128),
    ],
)
def test_a_camera_is_its_make_and_model_in_one_clean_line(make, model, camera):
    assert read(tagged({MAKE: make, MODEL: model})).camera == camera


@pytest.mark.parametrize(
    ("pattern", "camera"),
    [
        (r"(a)\.jpg$", "a"),
        (r"(nowhere)", "EXIF"),
        (r"(nowhere)?a\.jpg", "EXIF"),
    ],
)
def test_a_camera_pattern_goes_before_exif_data(pattern, camera):
    assert read(tagged({MODEL: "EXIF"}), pattern).camera == camera


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cam", "got 'cam' (0 groups)"),
        ("(a", "got '(a' (missing )"),
    ],
    ids=range(2),
)
def test_a_camera_pattern_that_has_not_one_group_is_refused(text, said):
    assert compile_camera_pattern("/(cam[0-9]+)/(?:a|b)").groups == 1
    with pytest.raises(UsageError, match=re.escape(said)):
        compile_camera_pattern(text)


def huge_png() -> bytes:
    file = io.BytesIO()
    Image.new("1", (10_000, 9_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cannot be decoded (it is empty)"),
        (b"%PDF-1.7\n" + bytes(99), "cannot be decoded (it is PDF)"),
        (pictures.JPEG["baseline"][:-200], "cannot be decoded (image file is truncated"),
        (pictures.rotated("PNG", 6)[:-40], "cannot be decoded ("),
        (huge_png(), "has 10000 x 9000 pixels, expected at most 89,478,485"),
    ],
    ids=range(5),
)
def test_what_is_no_picture_is_refused_with_the_reason_in_one_line(data, reason):
    with pytest.raises(UsageError) as caught:
        read(data)
    assert str(caught.value).startswith(reason) and len(str(caught.value).splitlines()) == 1


def check_exif(block: bytes, kind: str) -> None:
    data = pictures.encoded(TINY, kind, exif=block)
    got = read(data)
    assert sorted(got.image.size) == [8, 9]
    assert isinstance(got.taken, float) and got.camera.isprintable() and len(got.camera) <= 128


GOOD = exif_of(
    {MAKE: "Make", MODEL: "Model", 0x0112: 6, TIME: T, ORIGINAL: T, OFFSET_ORIGINAL: "+02:00"}
).tobytes()
PLACES = st.dictionaries(st.integers(6, len(GOOD) - 1), st.integers(0, 255), max_size=12)


@given(PLACES, st.sampled_from(["JPEG", "PNG", "WEBP"]))
def test_exif_data_with_damaged_bytes_never_fail_a_picture(places, kind):
    block = bytearray(GOOD)
    for place, value in places.items():
        block[place] = value
    check_exif(bytes(block), kind)


SHOWN = Picture("", width=60, height=40)
SCENE = np.arange(40 * 60 * 3).reshape(40, 60, 3).astype(np.uint8)


@given(*[st.floats(-1e3, 1e3) | st.sampled_from([-1e308, 1e308])] * 4)
@example(0.0, 0.0, 7.0, 40.0)
@example(0.5, 0.5, 7.0, 7.0)
def test_a_crop_covers_all_of_the_box_within_the_picture(x, y, width, height):
    box = x, y, width, height
    try:
        got = np.asarray(crop(Image.fromarray(SCENE), box))
    except UsageError as err:
        assert "expected at least 8 x 8" in str(err) and not fits(box, SHOWN)
        return
    assert fits(box, SHOWN)
    left, top = max(0, math.floor(x)), max(0, math.floor(y))
    np.testing.assert_array_equal(got, SCENE[top : top + got.shape[0], left : left + got.shape[1]])
    inside = min(x + width, 60) - max(x, 0), min(y + height, 40) - max(y, 0)
    for size, wanted in zip((got.shape[1], got.shape[0]), inside, strict=True):
        assert wanted <= size < wanted + 2


def test_a_file_is_shown_while_its_bytes_are_those_that_were_indexed(tmp_path):
    path = tmp_path / "a.bmp"
    path.write_bytes(pictures.encoded(TINY, "BMP"))
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    indexed = Picture("0" * 32, str(path), content, box=(0.0, 0.0, 8.0, 8.0))
    assert photo.scene_of(indexed).shape == (8, 9, 3) and photo.crop_of(indexed).shape == (8, 8, 3)
    small = thumbnail(indexed)
    assert Image.open(io.BytesIO(small)).size == (8, 8)
    assert thumbnail(indexed) is small, "it is kept"
    before = os.stat(path)
    path.write_bytes(pictures.encoded(Image.new("RGB", TINY.size), "BMP"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size and time
    for show in (photo.scene_of, photo.crop_of, thumbnail):
        with pytest.raises(GoneError, match="a.bmp: the file has changed since it was indexed"):
            show(indexed)
    path.unlink()
    with pytest.raises(GoneError, match="index its folder again"):
        thumbnail(indexed)
