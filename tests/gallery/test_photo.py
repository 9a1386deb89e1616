"""One picture file read: its pixels, hash, time and camera, or one line that says why not."""

import datetime
import hashlib
import io
import os
import pathlib
import re
import tempfile
import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from cada_jax.common.errors import UsageError
from cada_jax.common.images import read_rgb
from cada_jax.gallery import photo
from cada_jax.gallery.photo import compile_camera_pattern, content_of, crop, read_photo
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


@pytest.fixture
def read(tmp_path):
    def write_and_read(data: bytes, pattern: str | None = None) -> photo.Photo:
        path = tmp_path / "a.jpg"
        path.write_bytes(data)
        compiled = None if pattern is None else compile_camera_pattern(pattern)
        return read_photo(str(path), MODIFIED * 10**9, compiled)

    return write_and_read


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
def test_every_kind_of_picture_gives_its_pixels_and_the_hash_of_its_bytes(read, tmp_path, kind):
    data = pictures.EVERY_KIND[kind]
    got = read(data)
    np.testing.assert_array_equal(got.pixels, read_rgb(data))
    assert got.pixels.dtype == np.uint8
    digest = hashlib.sha256(data).hexdigest()
    assert got.content == digest == content_of(str(tmp_path / "a.jpg"))
    assert got.taken == MODIFIED or "EXIF" in kind


def test_pixels_are_upright(read):
    assert read(pictures.rotated("JPEG", 6)).pixels.shape == (43, 61, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "MPO"])
def test_exif_data_are_read_from_every_kind_that_holds_them(read, kind):
    tags = {MAKE: "Make", MODEL: "Model", ORIGINAL: "2020:01:02 03:04:05", OFFSET_ORIGINAL: "Z"}
    got = read(tagged(tags, kind))
    assert (got.taken, got.camera) == (utc(2020, 1, 2, 3, 4, 5), "Make Model")


def test_exif_data_are_read_from_a_tiff(read):
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
        ({ORIGINAL: T}, HERE),
        ({TIME: T}, HERE),
        ({ORIGINAL: T, TIME: T2}, HERE),
        ({ORIGINAL: T, OFFSET_ORIGINAL: "+02:00"}, utc(2020, 1, 2, 1, 4, 5)),
        ({ORIGINAL: T, OFFSET_ORIGINAL: "-03:30"}, utc(2020, 1, 2, 6, 34, 5)),
        ({ORIGINAL: T, OFFSET_ORIGINAL: "Z"}, utc(2020, 1, 2, 3, 4, 5)),
        ({ORIGINAL: T, OFFSET: "+02:00"}, HERE),
        ({TIME: T, OFFSET: "+02:00"}, utc(2020, 1, 2, 1, 4, 5)),
        ({TIME: T, OFFSET_ORIGINAL: "+02:00"}, utc(2020, 1, 2, 1, 4, 5)),
        ({ORIGINAL: T, OFFSET_ORIGINAL: "   :  "}, HERE),
        ({ORIGINAL: T, OFFSET_ORIGINAL: "+99:00"}, HERE),
        ({ORIGINAL: T, OFFSET_ORIGINAL: "soon"}, HERE),
        ({ORIGINAL: "2020-01-02T03:04:05"}, HERE),
        ({ORIGINAL: "2020/01/02 03:04:05.123"}, HERE),
        ({ORIGINAL: "0000:00:00 00:00:00", TIME: T}, HERE),
        ({ORIGINAL: "    :  :     :  :  ", TIME: T}, HERE),
        ({ORIGINAL: "0000:00:00 00:00:00"}, MODIFIED),
        ({ORIGINAL: "2020:13:45 99:99:99"}, MODIFIED),
        ({ORIGINAL: "0001:01:01 00:00:00", OFFSET_ORIGINAL: "+14:00"}, utc(1, 1, 1) - 50400),
        ({ORIGINAL: "yesterday"}, MODIFIED),
        ({ORIGINAL: ""}, MODIFIED),
        ({}, MODIFIED),
    ],
)
def test_the_time_is_that_of_the_shutter_where_the_file_states_one(read, in_tokyo, tags, taken):
    assert read(tagged(tags)).taken == taken


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "EOS R5", "Canon EOS R5"),
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("CANON", "Canon EOS R5", "Canon EOS R5"),
        ("Canon\0\0\0", "EOS\0\0", "Canon EOS"),
        ("  Canon  ", "  EOS   R5 ", "Canon EOS R5"),
        ("Can\non\x1b[31m", "EOS\t\x7f", "Can on [31m EOS"),
        ("Canon\0rubbish", "EOS", "Canon EOS"),
        ("Canon", "", "Canon"),
        ("", "EOS", "EOS"),
        ("\0\n", "\x01", ""),
        ("x" * 500, "y", "x" * 128),
    ],
)
def test_a_camera_is_its_make_and_model_in_one_clean_line(read, make, model, camera):
    assert read(tagged({MAKE: make, MODEL: model})).camera == camera


@pytest.mark.parametrize(
    ("pattern", "camera"),
    [
        (r"(a)\.jpg$", "a"),
        (r"/([^/]*)\.jpg", "a"),
        (r"(nowhere)", "EXIF"),
        (r"(nowhere)?a\.jpg", "EXIF"),
        (r"a(\s*)\.jpg", "EXIF"),
    ],
)
def test_a_camera_pattern_goes_before_exif_data(read, pattern, camera):
    assert read(tagged({MODEL: "EXIF"}), pattern).camera == camera


@pytest.mark.parametrize("text", ["/(cam[0-9]+)/", "(?:a|b)(c)", "(?P<camera>x)"])
def test_a_camera_pattern_has_one_group(text):
    assert compile_camera_pattern(text).pattern == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cam", "expected one group, got 0 in 'cam'"),
        ("(a)(b)", "expected one group, got 2"),
        ("(a", "expected a regular expression, got '(a'"),
        ("*", "expected a regular expression"),
        ("", "got 0"),
        ("(a{99999999999999})", "expected a regular expression"),
        ("(" * 5000 + ")" * 5000, "camera_pattern"),
        (None, "expected a regular expression, got None"),
    ],
    ids=range(8),
)
def test_another_camera_pattern_is_refused(text, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        compile_camera_pattern(text)


def huge_png() -> bytes:
    file = io.BytesIO()
    Image.new("1", (10_000, 9_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cannot be decoded (the file is empty)"),
        (b"%PDF-1.7\n" + bytes(99), "cannot be decoded (it is no image file"),
        (pictures.encoded(TINY, "PDF"), "cannot be decoded (it is no image file"),
        (pictures.KEPT_JPEG["baseline"][0][:-200], "cannot be decoded (image file is truncated"),
        (pictures.KEPT_PNG["RGB"][:-200], "cannot be decoded ("),
        (pictures.rotated("PNG", 6)[:-40], "cannot be decoded ("),
        (huge_png(), "has 10000 x 9000 pixels, expected at most 89,478,485"),
    ],
    ids=range(7),
)
def test_what_is_no_picture_is_refused_with_the_reason_in_one_line(read, data, reason):
    with pytest.raises(UsageError) as caught:
        read(data)
    assert str(caught.value).startswith(reason) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("reader", [lambda path: read_photo(path, 0), content_of])
def test_a_file_that_cannot_be_opened_is_refused_with_the_reason(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe.jpg")  # to open it would wait for ever
    for name, reason in [
        ("vanished.jpg", "is no longer there"),
        ("pipe.jpg", "is no ordinary file"),
        (".", "is no ordinary file"),
        ("a\0b", "cannot be read (embedded null byte)"),
        ("x" * 300, "cannot be read (File name too long)"),
    ]:
        with pytest.raises(UsageError) as caught:
            reader(str(tmp_path / name))
        assert str(caught.value) == reason


def test_a_file_without_permission_is_refused():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "a.jpg")
        path.write_bytes(tagged({}))
        path.chmod(0)
        pathlib.Path(folder).chmod(0o755)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(UsageError, match=r"^cannot be read \(Permission denied\)$"):
                read_photo(str(path), 0)
        finally:
            if root:
                os.seteuid(0)


def test_a_file_of_more_bytes_than_any_picture_is_not_read(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(photo.MOST_BYTES + 1)  # takes no room
    with pytest.raises(UsageError, match="has 1,073,741,825 bytes, expected at most"):
        read_photo(str(tmp_path / "a.jpg"), 0)


def check_exif(block: bytes, kind: str) -> None:
    data = pictures.encoded(TINY, kind, exif=block)
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(data)
        file.flush()
        got = read_photo(file.name, MODIFIED * 10**9)
    assert sorted(got.pixels.shape) == [3, 8, 9]
    assert isinstance(got.taken, float) and got.camera.isprintable() and len(got.camera) <= 128


@given(st.binary(max_size=200), st.sampled_from(["JPEG", "PNG", "WEBP"]), st.booleans())
@example(b"II*\0\xff\xff\xff\xff", "PNG", True)
def test_random_exif_bytes_never_fail_a_picture(block, kind, headed):
    check_exif(b"Exif\0\0" * headed + block, kind)


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


SCENE = np.arange(40 * 60 * 3).reshape(40, 60, 3).astype(np.uint8)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((0, 0, 60, 40), (0, 40), (0, 60)),
        ((10, 5, 20, 30), (5, 35), (10, 30)),
        ((10.9, 5.1, 20, 30), (5, 36), (10, 31)),
        ((-5, -5, 20, 20), (0, 15), (0, 15)),
        ((50, 30, 1e300, 1e300), (30, 40), (50, 60)),
        ((-1e308, -1e308, 1.7e308, 1.7e308), (0, 40), (0, 60)),
        ((1, 1, 8, 8), (1, 9), (1, 9)),
        ((0.5, 0.5, 7, 7), (0, 8), (0, 8)),
    ],
)
def test_a_crop_is_the_box_within_the_picture_rounded_outward(box, rows, columns):
    got = crop(SCENE, box)
    np.testing.assert_array_equal(got, SCENE[slice(*rows), slice(*columns)])
    assert got.flags.owndata


def test_without_a_box_the_picture_is_whole():
    assert crop(SCENE, None) is SCENE


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((0, 0, 7, 40), "keeps 7 x 40 pixels of a picture of 60 x 40, expected at least 8 x 8"),
        ((0, 33, 60, 40), "keeps 60 x 7"),
        ((70, 0, 20, 20), "keeps 0 x 20"),
        ((20, 20, -15, 9), "keeps 0 x 9"),
        ((float("nan"), 0, 9, 9), "finite"),
        ((0, 0, float("inf"), 9), "finite"),
        ((0, 0, 10**400, 9), "numbers"),
        ((0, 0, "wide", 9), "numbers"),
        ((0, 0, 9), "numbers"),
    ],
    ids=range(9),
)
def test_a_box_that_leaves_nobody_is_refused(box, said):
    with pytest.raises(UsageError, match=said):
        crop(SCENE, box)


@given(*[st.floats(-1e3, 1e3)] * 4)
def test_a_crop_covers_all_of_the_box_within_the_picture(x, y, width, height):
    try:
        got = crop(SCENE, (x, y, width, height))
    except UsageError:
        return
    inside = min(x + width, 60) - max(x, 0), min(y + height, 40) - max(y, 0)
    for size, wanted in zip((got.shape[1], got.shape[0]), inside, strict=True):
        assert wanted <= size < wanted + 2
