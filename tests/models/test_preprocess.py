"""Augmentations: what they may change, how often, and that keys decide."""

import jax
import jax.numpy as jnp
import numpy as np

from cada_jax.models import preprocess


def pictures(batch=64, height=24, width=12):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.integers(1, 256, (batch, height, width, 3), dtype=np.uint8))


def test_normalize_has_the_stated_statistics():
    mean = jnp.asarray(np.round(preprocess.MEAN * 255), jnp.uint8)
    flat = jnp.broadcast_to(mean, (1, 2, 2, 3))
    assert np.abs(preprocess.normalize_pixels(flat)).max() < 0.01
    white = preprocess.normalize_pixels(jnp.full((1, 1, 1, 3), 255, jnp.uint8))
    np.testing.assert_allclose(white[0, 0, 0], (1 - preprocess.MEAN) / preprocess.STD, rtol=1e-5)


def test_flip_mirrors_about_half():
    images = pictures(400)
    out = np.asarray(preprocess.flip(images, jax.random.key(0), 0.5))
    same = (out == images).all((1, 2, 3))
    mirrored = (out == images[:, :, ::-1]).all((1, 2, 3))
    assert np.all(same | mirrored)
    assert 0.4 < mirrored.mean() < 0.6


def test_crop_is_a_shift_by_at_most_the_padding_filled_with_zeros():
    images, pad = pictures(), 3
    out = np.asarray(preprocess.pad_and_crop(images, jax.random.key(0), pad))
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    shifts = set()
    for row, image in enumerate(out):
        found = [
            (y, x)
            for y in range(2 * pad + 1)
            for x in range(2 * pad + 1)
            if np.array_equal(padded[row, y : y + 24, x : x + 12], image)
        ]
        assert len(found) == 1
        shifts.add(found[0])
    assert len(shifts) > 20
    assert preprocess.pad_and_crop(images, jax.random.key(0), 0) is images


def test_erase_fills_one_rectangle_of_the_stated_size_with_the_mean():
    images = jnp.full((600, 48, 24, 3), 9.0)
    out = np.asarray(preprocess.erase(images, jax.random.key(0), 0.5, (0.05, 0.3), (0.5, 2.0)))
    erased = out[..., 0] != 9.0
    touched = erased.any((1, 2))
    assert 0.43 < touched.mean() < 0.57
    for mask, image in zip(erased[touched], out[touched], strict=True):
        rows, columns = mask.any(1), mask.any(0)
        assert np.array_equal(mask, rows[:, None] & columns[None])  # a rectangle
        for line in (rows, columns):
            inside = np.flatnonzero(line)
            assert inside[-1] - inside[0] + 1 == len(inside)  # in one piece
        assert 0.05 * 0.85 < mask.mean() < 0.3 * 1.15  # whole pixels
        np.testing.assert_array_equal(
            image[mask], np.broadcast_to(preprocess.MEAN, (mask.sum(), 3))
        )


def test_the_key_decides_everything(tiny_config):
    images = pictures()
    one = preprocess.augment(images, jax.random.key(1), tiny_config.augment)
    assert np.array_equal(one, preprocess.augment(images, jax.random.key(1), tiny_config.augment))
    other = preprocess.augment(images, jax.random.key(2), tiny_config.augment)
    assert not np.array_equal(one, other)


def test_all_switched_off_is_normalize(tiny_config):
    settings = tiny_config.augment
    settings.flip, settings.pad, settings.erase = 0.0, 0, 0.0
    images = pictures()
    out = preprocess.augment(images, jax.random.key(0), settings)
    np.testing.assert_array_equal(out, preprocess.normalize_pixels(images))
