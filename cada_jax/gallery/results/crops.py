"""The picture behind a result: the file's pixels, or the person's box in them."""

from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.common.images import read_rgb
from cada_jax.gallery.photo import crop
from cada_jax.retrieval.searchable import Picture


def crop_of(picture: Picture) -> Image.Image | None:
    """The result's own part of its file, upright; None where the file is gone or damaged."""
    try:
        return Image.fromarray(crop(read_rgb(picture.path), picture.box))
    except UsageError:
        return None


def fitted(image: Image.Image, most: tuple[int, int]) -> Image.Image:
    """The image scaled into `most` (width, height) pixels, its shape kept."""
    scale = min(most[0] / image.width, most[1] / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)
