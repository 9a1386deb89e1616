"""One picture file: upright pixels, content, time, camera; what is damaged; crops."""

import datetime
import hashlib
import io
import os
import time

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import ExifTags, Image

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.gallery.photo import camera_of, compile_camera_pattern, crop, read_photo
from tests.gallery.tiny import picture, picture_bytes

BASE = ExifTags.Base
MODIFIED = 1_700_000_000_000_000_000


def with_exif(tmp_path, outer=None, inner=None, format="JPEG"):
    """A file of a picture with EXIF tags."""
    exif = Image.Exif()
    exif.update({BASE[name]: value for name, value in (outer or {}).items()})
    exif.get_ifd(ExifTags.IFD.Exif).update({BASE[n]: v for n, v in (inner or {}).items()})
    path = tmp_path / "photo"
    picture(0).save(path, format, exif=exif)
    return str(path)


def read(path, **more):
    return read_photo(str(path), MODIFIED, **more)


def utc(*when):
    return datetime.datetime(*when, tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize("format", ["JPEG", "MPO", "PNG", "BMP", "WEBP", "TIFF", "GIF"])
def test_every_format_is_read(tmp_path, format):
    data = picture_bytes(0, format)
    (tmp_path / "photo").write_bytes(data)
    photo = read(tmp_path / "photo")
    assert photo.pixels.shape == (40, 24, 3) and photo.pixels.dtype == np.uint8
    assert photo.content == hashlib.sha256(data).hexdigest()
    if format in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(photo.pixels, np.asarray(picture(0)))


@pytest.mark.parametrize("turned", range(1, 9))
def test_a_rotated_picture_stands_upright(tmp_path, turned):
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[BASE.Orientation] = turned
    stored = picture(0).transpose(back[turned]) if turned > 1 else picture(0)
    stored.save(tmp_path / "photo", "PNG", exif=exif)
    assert np.array_equal(read(tmp_path / "photo").pixels, np.asarray(picture(0)))


@pytest.mark.parametrize(
    "outer, inner, taken",
    [
        ({}, {}, MODIFIED / 1e9),
        (
            {},
            {"DateTimeOriginal": "2026:05:31 18:00:00", "OffsetTimeOriginal": "+02:00"},
            utc(2026, 5, 31, 16),
        ),
        (
            {},
            {"DateTimeOriginal": "2026:05:31 18:00:00", "OffsetTimeOriginal": "-09:30"},
            utc(2026, 6, 1, 3, 30),
        ),
        (
            {"DateTime": "2020:01:01 00:00:00"},
            {"DateTimeOriginal": "2026:05:31 18:00:00", "OffsetTime": "+00:00"},
            utc(2026, 5, 31, 18),
        ),
        (
            {"DateTime": "2020:01:01 00:00:00"},
            {"OffsetTime": "+00:00"},
            utc(2020, 1, 1),
        ),
        ({"DateTime": "0000:00:00 00:00:00"}, {}, MODIFIED / 1e9),
        ({"DateTime": "yesterday"}, {}, MODIFIED / 1e9),
    ],
)
def test_the_time_is_that_of_exposure_or_else_of_the_file(tmp_path, outer, inner, taken):
    assert read(with_exif(tmp_path, outer, inner)).taken == taken


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_a_time_without_offset_is_local(tmp_path, monkeypatch, zone):
    path = with_exif(tmp_path, inner={"DateTimeOriginal": "2026:05:31 18:00:00"})
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        taken = read(path).taken
    finally:
        monkeypatch.undo()
        time.tzset()
    hours = {"Asia/Tokyo": 9, "America/New_York": -4}[zone]
    assert taken == utc(2026, 5, 31, 18) - 3600 * hours


@pytest.mark.parametrize(
    "make, model, camera",
    [
        ("NIKON", "NIKON D90", "NIKON D90"),
        ("Axis", "P3245", "Axis P3245"),
        ("Canon\0\0", " EOS  5 \n", "Canon EOS 5"),
        ("", "", ""),
        ("a" * 5000, "b", "a" * 200),
    ],
)
def test_the_camera_is_make_and_model(tmp_path, make, model, camera):
    assert read(with_exif(tmp_path, {"Make": make, "Model": model})).camera == camera


@pytest.mark.parametrize(
    "text, name, camera",
    [
        (r"_c([0-9]+)", "a_c17_x.png", "17"),
        (r"_c([0-9]+)", "a.png", ""),
        (r"(cam)?", "a.png", ""),
    ],
)
def test_the_camera_is_what_a_pattern_finds_in_the_path(tmp_path, text, name, camera):
    (tmp_path / name).write_bytes(picture_bytes(0))
    pattern = compile_camera_pattern(text)
    assert read(tmp_path / name, camera_pattern=pattern).camera == camera
    assert camera_of(name, pattern) == camera


@pytest.mark.parametrize("text, says", [("(", "no regular"), ("c", "found 0"), ("(a)(b)", "two|2")])
def test_a_senseless_camera_pattern_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        compile_camera_pattern(text)


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "the file is empty"),
        (b"%PDF-1.7 ...", "no image file"),
        (b"<svg/>", "web page or XML"),
        (picture_bytes(0, "JPEG")[:400], "truncated|cannot be decoded"),
        (picture_bytes(0, "PNG")[:400], "truncated|cannot be decoded"),
        (picture_bytes(0, "WEBP")[:200], "cannot be decoded"),
    ],
)
def test_what_is_no_whole_picture_is_an_error(tmp_path, data, says):
    (tmp_path / "photo.jpg").write_bytes(data)
    with pytest.raises(UsageError, match=says):
        read(tmp_path / "photo.jpg")


def test_a_format_that_is_not_accepted_is_an_error(tmp_path):
    picture(0).save(tmp_path / "a.jpg", "PPM")
    with pytest.raises(UsageError, match="PPM, expected one of"):
        read(tmp_path / "a.jpg")


def test_a_file_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(MissingFileError, match="no longer there"):
        read(tmp_path / "gone.jpg")
    os.mkdir(tmp_path / "folder")
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "folder")


@hypothesis.given(st.binary(max_size=300), st.sampled_from([b"Exif\0\0", b"Exif\0\0MM\0*", b""]))
def test_no_metadata_make_a_picture_unreadable(tmp_path_factory, noise, magic):
    path = tmp_path_factory.mktemp("exif") / "a.jpg"
    file = io.BytesIO()
    picture(0).save(file, "JPEG")
    data, segment = file.getvalue(), magic + noise
    length = (len(segment) + 2).to_bytes(2, "big")
    path.write_bytes(data[:2] + b"\xff\xe1" + length + segment + data[2:])
    photo = read(path)
    assert sorted(photo.pixels.shape) == [3, 24, 40] and np.isfinite(photo.taken)
    assert len(photo.camera) <= 200
    photo.camera.encode()


@hypothesis.given(st.tuples(*[st.floats(-1e8, 1e8)] * 4))
def test_a_crop_lies_in_the_picture_or_is_refused(box):
    pixels = np.asarray(picture(0))
    try:
        part = crop(pixels, box)
    except UsageError as err:
        assert "expected 8 on a side" in str(err)
        return
    height, width = part.shape[:2]
    assert 8 <= height <= 40 and 8 <= width <= 24


@pytest.mark.parametrize(
    "box, rows, columns",
    [
        ((2, 3, 10, 20), (3, 23), (2, 12)),
        ((2.5, 3.5, 10, 20), (3, 24), (2, 13)),
        ((-5, -5, 100, 100), (0, 40), (0, 24)),
        ((16, 32, 8, 8), (32, 40), (16, 24)),
    ],
)
def test_a_crop_is_rounded_outward_and_clipped(box, rows, columns):
    pixels = np.asarray(picture(0))
    assert np.array_equal(crop(pixels, box), pixels[slice(*rows), slice(*columns)])


@pytest.mark.parametrize("box", [(0, 0, 7, 40), (0, 0, 24, 7), (20, 0, 50, 40), (99, 0, 9, 9)])
def test_a_crop_that_shows_nobody_is_refused(box):
    with pytest.raises(UsageError, match="expected 8 on a side"):
        crop(np.asarray(picture(0)), box)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_crop_of_no_number_is_refused(bad):
    with pytest.raises(UsageError, match="not finite"):
        crop(np.asarray(picture(0)), (0, bad, 9, 9))
