"""One reader of pictures: every kind of file gives the pixels that a person sees."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from cada_jax.common import images
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.images import encode_png, read_rgb
from tests.data import pictures

PHOTO = pictures.photo()
GREY = np.asarray(pictures.GREY)[..., None].repeat(3, -1)
# What the eight EXIF orientations ask a viewer to do with the stored rows and columns.
TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize(
    "kind",
    [
        "PNG, RGB",
        "PNG, RGB and alpha",
        "PNG, one clear colour",
        "PNG, 16 bits",
        "BMP",
        "BMP, alpha",
        "WebP, lossless",
        "WebP, alpha",
        "TIFF",
        "TIFF, LZW",
        "TIFF, two pictures",
    ],
)
def test_files_without_loss_give_the_very_pixels_and_drop_transparency(kind):
    np.testing.assert_array_equal(read_rgb(pictures.EVERY_KIND[kind]), PHOTO)


@pytest.mark.parametrize("kind", ["PNG, grey", "PNG, grey and alpha", "BMP, grey"])
def test_grey_has_three_equal_channels(kind):
    np.testing.assert_array_equal(read_rgb(pictures.EVERY_KIND[kind]), GREY)


@pytest.mark.parametrize("kind", ["PNG, 16 bits grey", "TIFF, 16 bits"])
def test_of_16_bits_the_upper_8_are_kept(kind):
    got = read_rgb(pictures.EVERY_KIND[kind])
    np.testing.assert_array_equal(got, PHOTO[..., :1].repeat(3, -1))


@pytest.mark.parametrize("kind", ["PNG, 1 bit", "BMP, 1 bit", "TIFF, 1 bit"])
def test_one_bit_is_black_and_white(kind):
    expected = np.asarray(pictures.PHOTO.convert("1").convert("RGB"))
    np.testing.assert_array_equal(read_rgb(pictures.EVERY_KIND[kind]), expected)


@pytest.mark.parametrize("kind", [k for k in pictures.EVERY_KIND if "EXIF" not in k])
def test_every_kind_shows_the_first_picture(kind):
    got = read_rgb(pictures.EVERY_KIND[kind])
    assert got.dtype == np.uint8 and got.shape == PHOTO.shape
    if "noise" in kind:
        return
    shown = PHOTO if not any(w in kind for w in ("grey", "1 bit", "TIFF, 16")) else GREY
    coarse = abs(got.astype(int).mean((0, 1)) - shown.mean((0, 1)))
    assert coarse.max() < 25, "another picture, or its negative"


@pytest.mark.parametrize("turn", TURNS)
def test_exif_rotation_is_applied(turn):
    expected = TURNS[turn](np.asarray(pictures.PHOTO))
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(read_rgb(pictures.rotated(kind, turn)), expected)
    got = read_rgb(pictures.rotated("JPEG", turn)).astype(int)
    assert got.shape == expected.shape and np.abs(got - expected).mean() < 10


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"nonsense"])
def test_an_unreadable_exif_block_counts_as_none(exif):
    data = pictures.encoded(pictures.PHOTO, "JPEG", exif=exif)
    assert read_rgb(data).shape == PHOTO.shape


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_though_its_other_exif_data_cannot_be_written_anew(kind):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Make"
    # The maker's tag becomes that of the width: text where Pillow writes numbers only.
    block = exif.tobytes().replace(b"\x01\x0f\x00\x02", b"\x01\x00\x00\x02")
    data = pictures.encoded(pictures.PHOTO, kind, exif=block)
    with Image.open(io.BytesIO(data)) as image, pytest.raises(struct.error):
        image.getexif().tobytes()
    assert read_rgb(data).shape == PHOTO.swapaxes(0, 1).shape


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_does_not_exist_counts_as_none(orientation):
    np.testing.assert_array_equal(read_rgb(pictures.rotated("PNG", orientation)), PHOTO)


def png_of_size(width: int, height: int) -> bytes:
    data = bytearray(pictures.KEPT_PNG["RGB"])
    data[16:24] = width.to_bytes(4) + height.to_bytes(4)
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4)
    return bytes(data)


@pytest.mark.parametrize("size", [(9460, 9460), (60_000, 60_000), (2**31 - 1, 1)])
def test_a_file_that_asks_for_too_many_pixels_is_refused(size):
    with pytest.raises(UsageError, match="expected at most 89,478,485: save it smaller"):
        read_rgb(png_of_size(*size), "big.png")


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"<html>404</html>", "web page"),
        (b"\x00\x05\x16\x07" + bytes(80), "companion file of macOS"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x1f\x8b" + bytes(80), "gzip"),
        (b"PK\x03\x04" + bytes(80), "zip archive"),
        (b"no image", "no image file"),
        (pictures.encoded(pictures.PHOTO, "ICO"), "is ICO, expected one of JPEG"),
        (pictures.KEPT_JPEG["baseline"][0][:-200], "cannot be decoded (image file is truncated"),
        (pictures.KEPT_PNG["RGB"][:-200], "cannot be decoded ("),
        (pictures.encoded(Image.new("F", (4, 4)), "TIFF"), "32 bits a pixel"),
    ],
)
def test_what_is_no_picture_is_named_for_what_it_is(data, named):
    with pytest.raises(UsageError) as caught:
        read_rgb(data, "x.jpg")
    assert str(caught.value).startswith("image x.jpg ") and named in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_files_are_read_by_path(tmp_path):
    (tmp_path / "a.png").write_bytes(encode_png(PHOTO))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), PHOTO)
    np.testing.assert_array_equal(read_rgb(str(tmp_path / "a.png")), PHOTO)
    with pytest.raises(MissingFileError, match=r"b\.png does not exist"):
        read_rgb(tmp_path / "b.png")
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\)"):
        read_rgb(tmp_path)


def test_pixels_may_be_changed_by_who_reads_them():
    read_rgb(pictures.KEPT_PNG["RGB"])[0, 0] = 0


def test_the_limit_is_the_one_that_pillow_warns_at():
    assert images.MOST_PIXELS == Image.MAX_IMAGE_PIXELS
