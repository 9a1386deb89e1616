"""On-device image augmentation, every draw keyed by `jax.random`.

The recipe of the released code: flip, pad and crop, normalise, random erasing. Images come
to the device as uint8 and leave normalised; B images of H x W.
"""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cada_jax.common.shapes import AnyArray, Array, Float32, PRNGKeyArray, Shaped

# CLIP's statistics, which BLIP and CADA use. The released code also erases with MEAN.
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
ERASE_TRIES = 10  # rectangles drawn before giving up, as torchvision's RandomErasing


def normalize_pixels(images: Shaped[AnyArray, "B H W 3"]) -> Float32[Array, "B H W 3"]:
    """Maps uint8 [B,H,W,3] in [0,255] to float32 with the statistics above."""
    scaled = jnp.asarray(images, jnp.float32) / 255.0
    return (scaled - MEAN[None, None, None]) / STD[None, None, None]


def flip(
    images: Shaped[AnyArray, "B H W 3"], key: PRNGKeyArray, probability: float
) -> Shaped[Array, "B H W 3"]:
    """Mirrors each image [B,H,W,3] left to right with the given probability."""
    chosen = jax.random.bernoulli(key, probability, (images.shape[0], 1, 1, 1))
    return jnp.where(chosen, images[:, :, ::-1], images)


def pad_and_crop(
    images: Shaped[AnyArray, "B H W 3"], key: PRNGKeyArray, pad: int
) -> Shaped[AnyArray, "B H W 3"]:
    """Pads uint8 [B,H,W,3] by `pad` zeros on each side, crops H x W anywhere inside."""
    if pad == 0:
        return images
    batch, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corners = jax.random.randint(key, (batch, 2), 0, 2 * pad + 1)

    def crop(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

    return jax.vmap(crop)(padded, corners)


def erase(
    images: Float32[AnyArray, "B H W 3"],
    key: PRNGKeyArray,
    probability: float,
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> Float32[Array, "B H W 3"]:
    """Fills one random rectangle per image with MEAN, after normalisation.

    Args:
      probability: that an image is touched at all.
      area: smallest and largest fraction of the image, uniform.
      ratio: smallest and largest height / width, log-uniform. A rectangle that does not
        fit is drawn again, up to ERASE_TRIES times; then the image stays whole.
    """
    batch, height, width, _ = images.shape
    key_on, key_area, key_ratio, key_top, key_left = jax.random.split(key, 5)
    tries = (batch, ERASE_TRIES)
    pixels = height * width * jax.random.uniform(key_area, tries, minval=area[0], maxval=area[1])
    shape = jnp.exp(
        jax.random.uniform(key_ratio, tries, minval=np.log(ratio[0]), maxval=np.log(ratio[1]))
    )
    tall = jnp.round(jnp.sqrt(pixels * shape))
    wide = jnp.round(jnp.sqrt(pixels / shape))
    fits = (tall < height) & (wide < width)
    first = jnp.argmax(fits, axis=1)[:, None]
    tall = jnp.take_along_axis(tall, first, axis=1)
    wide = jnp.take_along_axis(wide, first, axis=1)
    on = jax.random.bernoulli(key_on, probability, (batch, 1)) & jnp.any(fits, 1, keepdims=True)
    top = jnp.floor(jax.random.uniform(key_top, (batch, 1)) * (height - tall + 1))
    left = jnp.floor(jax.random.uniform(key_left, (batch, 1)) * (width - wide + 1))
    rows, columns = jnp.arange(height)[None], jnp.arange(width)[None]
    in_rows = (rows >= top) & (rows < top + tall) & on
    in_columns = (columns >= left) & (columns < left + wide)
    inside = in_rows[:, :, None, None] & in_columns[:, None, :, None]
    return jnp.where(inside, MEAN[None, None, None], images)


def augment(
    images: Shaped[AnyArray, "B H W 3"], key: PRNGKeyArray, settings: ConfigDict
) -> Float32[Array, "B H W 3"]:
    """Augments uint8 images as `config.augment` says, and normalises them."""
    key_flip, key_crop, key_erase = jax.random.split(key, 3)
    images = flip(images, key_flip, settings.flip)
    images = pad_and_crop(images, key_crop, settings.pad)
    images = normalize_pixels(images)
    if settings.erase:
        images = erase(images, key_erase, settings.erase, settings.erase_area, settings.erase_ratio)
    return images
