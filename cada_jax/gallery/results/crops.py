"""The picture behind a result: the file's pixels, or the person's box in them."""

from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.common.images import read_rgb
from cada_jax.retrieval.searchable import Picture


def crop_of(picture: Picture) -> Image.Image | None:
    """The result's own part of its file, upright; None where the file is gone or damaged."""
    try:
        image = Image.fromarray(read_rgb(picture.path))
    except UsageError:
        return None
    if picture.box is None:
        return image
    x, y, width, height = picture.box
    left, top = max(0, round(x)), max(0, round(y))
    right, bottom = min(image.width, round(x + width)), min(image.height, round(y + height))
    return image.crop((left, top, right, bottom)) if left < right and top < bottom else image


def fitted(image: Image.Image, most: tuple[int, int]) -> Image.Image:
    """The image scaled into `most` (width, height) pixels, its shape kept."""
    scale = min(most[0] / image.width, most[1] / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)
