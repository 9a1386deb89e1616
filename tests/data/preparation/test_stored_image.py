"""What is stored decodes, by TensorFlow, to the picture that Pillow reads from the file."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cada_jax.common.images import PictureError, read_rgb
from cada_jax.data.batches import decode_image
from cada_jax.data.preparation import stored_image
from cada_jax.data.preparation.stored_image import stored_form
from cada_jax.data.preparation.tensorflow_check import tensorflow_problem
from tests.data import pictures


def by_tensorflow(stored: bytes) -> np.ndarray:
    height, width = read_rgb(stored).shape[:2]
    return decode_image(tf.constant(stored), height, width).numpy().astype(int)


@pytest.mark.parametrize("kind", pictures.KEPT_JPEG)
def test_a_plain_jpeg_is_stored_as_it_is(kind):
    data, average, largest = pictures.KEPT_JPEG[kind]
    assert stored_form(data) == data and tensorflow_problem(data) is None
    difference = np.abs(by_tensorflow(data) - read_rgb(data))
    assert difference.mean() < average and difference.max() <= largest


@pytest.mark.parametrize("kind", pictures.KEPT_PNG)
def test_a_png_of_8_bits_is_stored_as_it_is(kind):
    data = pictures.KEPT_PNG[kind]
    assert stored_form(data) == data and tensorflow_problem(data) is None
    np.testing.assert_array_equal(by_tensorflow(data), read_rgb(data))


@pytest.mark.parametrize("kind", pictures.CHANGED)
def test_every_other_file_is_stored_as_png_with_the_same_pixels(kind):
    data = pictures.CHANGED[kind]
    stored = stored_form(data)
    assert stored.startswith(b"\x89PNG") and tensorflow_problem(stored) is None
    np.testing.assert_array_equal(by_tensorflow(stored), read_rgb(data))
    assert stored_form(stored) == stored


def test_a_jpeg_of_a_kind_that_tensorflow_does_not_know_is_stored_as_png(monkeypatch):
    """Arithmetic coding and lossless frames: Pillow's library may know them."""
    data = pictures.KEPT_JPEG["baseline"][0]
    assert stored_image._frame_marker(data) == 0xC0
    monkeypatch.setattr(stored_image, "_frame_marker", lambda _: 0xC9)
    stored = stored_form(data)
    np.testing.assert_array_equal(by_tensorflow(stored), read_rgb(data))


def test_the_frame_of_a_jpeg_is_found_behind_fill_bytes_and_comments():
    frame = b"\xff\xc9\x00\x0b"
    assert stored_image._frame_marker(b"\xff\xd8\xff\xff\xfe\x00\x04ab" + frame) == 0xC9
    assert stored_image._frame_marker(b"\xff\xd8\xff\xc4\x00\x02\xff\x01" + frame) == 0xC9
    assert stored_image._frame_marker(b"\xff\xd8" + b"\xff" * 9) == 0
    assert stored_image._frame_marker(b"") == 0


def decodes(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True


@pytest.mark.parametrize("kind", ["baseline", "progressive", "whole colours", "grey"])
def test_a_damaged_jpeg_is_found_as_by_decoding_all_of_it(kind):
    """The check leaves out what cannot fail, and only that."""
    generator = np.random.default_rng(0)
    whole, bad = np.frombuffer(pictures.KEPT_JPEG[kind][0], np.uint8), 0
    for trial in range(60):
        data = whole[: generator.integers(1, len(whole) + 1)].copy()
        if trial % 2:
            data = whole.copy()
            data[generator.integers(0, len(data), 3)] = generator.integers(0, 256, 3)
        try:
            stored_form(data.tobytes())
            stored = True
        except PictureError:
            stored = False
        assert stored == decodes(data.tobytes())
        bad += not stored
    assert 0 < bad < 60


@given(
    kind=st.sampled_from(sorted(pictures.EVERY_KIND)),
    cut=st.floats(0.3, 1.5),
    bytes_changed=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
)
def test_a_damaged_file_is_refused_or_stored_so_that_both_decoders_read_it(
    kind, cut, bytes_changed
):
    whole = pictures.EVERY_KIND[kind]
    data = bytearray(whole[: int(cut * len(whole))])
    for place, value in bytes_changed:
        data[min(int(place * len(data)), len(data) - 1)] = value
    try:
        stored = stored_form(bytes(data))
    except PictureError as err:
        assert str(err) and "0x" not in str(err) and len(str(err).splitlines()) == 1
        return
    if tensorflow_problem(stored) is None:
        difference = np.abs(by_tensorflow(stored) - read_rgb(stored))
        assert difference.mean() < 3.5 or stored == data  # a broken JPEG has no right pixels
