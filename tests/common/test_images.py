"""One reader of pictures: every kind of file gives the pixels that a person sees."""

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from cada_jax.common import images
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.images import check_decodes, encode_png, read_rgb, what_it_is
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


LOSSLESS = (
    *("PNG, RGB", "PNG, RGB and alpha", "PNG, one clear colour", "PNG, 16 bits"),
    *("BMP", "BMP, alpha", "WebP, lossless", "WebP, alpha", "TIFF", "TIFF, LZW"),
    "TIFF, two pictures",
)


def test_files_without_loss_give_the_very_pixels_and_drop_transparency():
    for kind in LOSSLESS:
        np.testing.assert_array_equal(read_rgb(pictures.EVERY_KIND[kind]), PHOTO, kind)


def test_grey_has_three_equal_channels_and_of_16_bits_the_upper_8_are_kept():
    for kind in ("PNG, grey", "PNG, grey and alpha", "BMP, grey"):
        np.testing.assert_array_equal(read_rgb(pictures.EVERY_KIND[kind]), GREY, kind)
    for kind in ("PNG, 16 bits grey", "TIFF, 16 bits"):
        expected = PHOTO[..., :1].repeat(3, -1)
        np.testing.assert_array_equal(read_rgb(pictures.EVERY_KIND[kind]), expected, kind)


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


@pytest.mark.parametrize("kind", ["AVIF, EXIF 6", "HEIC, EXIF 6"])
def test_phones_pictures_are_turned_as_their_container_says(kind):
    got = read_rgb(pictures.EVERY_KIND[kind]).astype(int)
    assert np.abs(got - TURNS[6](PHOTO)).mean() < 5


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


def png_of_size(width: int, height: int) -> bytes:
    data = bytearray(pictures.PNG["RGB"])
    data[16:24] = width.to_bytes(4) + height.to_bytes(4)
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4)
    return bytes(data)


@pytest.mark.parametrize("size", [(9460, 9460), (60_000, 60_000), (2**31 - 1, 1)])
def test_a_file_that_asks_for_too_many_pixels_is_refused(size):
    with pytest.raises(UsageError, match="expected at most 89,478,485: save it smaller"):
        read_rgb(png_of_size(*size), "big.png")


def test_a_heic_of_200_megapixels_is_refused_before_it_is_decoded():
    data = bytearray(pictures.heic(Image.new("RGB", (64, 64))))
    at = data.find(b"ispe") + 8
    data[at : at + 8] = (16_000).to_bytes(4) + (12_500).to_bytes(4)
    with pytest.raises(UsageError, match="has more pixels, expected at most"):
        read_rgb(bytes(data), "big.heic")


def test_without_its_reader_a_heic_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    images._formats.cache_clear()
    with pytest.raises(UsageError, match="image x.heic is HEIC: pip install pillow-heif"):
        read_rgb(pictures.EVERY_KIND["HEIC"], "x.heic")
    monkeypatch.undo()
    images._formats.cache_clear()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b" \n", "empty"),
        (b"\n<html>404</html>", "web page or XML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer (run git lfs pull)"),
        (b"\0\0\0\x20ftypisom" + bytes(80), "MP4"),
        (pictures.EVERY_KIND["HEIC"][:64], "HEIC"),
        (pictures.EVERY_KIND["AVIF"][:64], "AVIF"),
        (b"no image", "no image file, or its beginning is damaged"),
    ],
)
def test_what_is_no_picture_is_named_for_what_it_is(data, kind):
    assert what_it_is(data) == kind
    if kind not in ("HEIC", "AVIF"):
        with pytest.raises(UsageError) as caught:
            read_rgb(data, "x.jpg")
        assert str(caught.value) == f"image x.jpg cannot be decoded (it is {kind})"


@pytest.mark.parametrize(
    "kind", ["JPEG, baseline", "JPEG, progressive", "PNG, RGB", "AVIF", "HEIC"]
)
def test_damage_is_one_line_and_the_quick_check_finds_what_decoding_finds(kind):
    """The check leaves out what cannot fail, and only that."""
    generator = np.random.default_rng(0)
    whole, bad = np.frombuffer(pictures.EVERY_KIND[kind], np.uint8), 0
    for trial in range(60):
        data = whole[: generator.integers(1, len(whole) + 1)].copy()
        if trial % 2:
            data = whole.copy()
            data[generator.integers(0, len(data), 3)] = generator.integers(0, 256, 3)
        said = []
        for read in (read_rgb, check_decodes):
            try:
                read(data.tobytes())
            except UsageError as err:
                said.append(str(err))
        assert len(said) in (0, 2)
        assert all(len(line.splitlines()) == 1 and "0x" not in line for line in said)
        bad += bool(said)
    assert 0 < bad < 60


def test_files_are_read_by_path(tmp_path):
    (tmp_path / "a.png").write_bytes(encode_png(PHOTO))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), PHOTO)
    np.testing.assert_array_equal(read_rgb(str(tmp_path / "a.png")), PHOTO)
    with pytest.raises(MissingFileError, match=r"b\.png: expected a picture; there is no such"):
        read_rgb(tmp_path / "b.png")
    with pytest.raises(UsageError, match="expected a picture; it cannot be read .*directory"):
        read_rgb(tmp_path)
