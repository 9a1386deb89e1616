"""A picture and fields that came as a multipart form, read as they arrive and within limits."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, NamedTuple

import numpy as np

from cada_jax.common.images import PictureError, TooManyPixelsError, open_picture, rgb_pixels
from cada_jax.gallery.server.fields import MOST_FIELDS
from cada_jax.gallery.server.pictures import DECODERS
from cada_jax.gallery.server.problems import Problem, bad_field
from cada_jax.retrieval.images import pixels_of

IMAGE_FIELD = "image"


class Form(NamedTuple):
    """fields: names and values in order; image: the encoded bytes, None if none came."""

    fields: list[tuple[str, str]]
    image: bytes | None


async def read_form(content_type: str, chunks: AsyncIterator[bytes]) -> Form:
    """Reads a form; its length is bounded by whoever gives the chunks.

    Args:
      content_type: the header of the request.
      chunks: the body.

    Raises:
      Problem: 415, it is no multipart form; 400, it is damaged, or a field is not UTF-8.
    """
    import python_multipart
    from python_multipart.exceptions import FormParserError

    fields: list[tuple[str, str]] = []
    images: list[bytes] = []

    def on_field(field: Any) -> None:
        if len(fields) >= MOST_FIELDS:
            raise bad_field("fields", f"more than {MOST_FIELDS} came, expected fewer")
        name = _text("a field's name", field.field_name)
        fields.append((name, _text(name, field.value or b"")))

    def on_file(file: Any) -> None:
        name = _text("a field's name", file.field_name)
        if name != IMAGE_FIELD or images:
            raise bad_field(name, f"expected one file, in the field {IMAGE_FIELD!r}")
        file.file_object.seek(0)
        images.append(file.file_object.read())
        file.close()

    if content_type.split(";")[0].strip().lower() != "multipart/form-data":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the body is {content_type[:60] or 'of no type'!r}, expected multipart/form-data",
        )
    try:
        headers = {"Content-Type": content_type.encode("latin-1")}
        # In memory: a stranger's picture has no business on the disk.
        options = {"MAX_MEMORY_FILE_SIZE": float("inf")}
        parser = python_multipart.create_form_parser(headers, on_field, on_file, options)
        async for chunk in chunks:
            parser.write(chunk)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise bad_field("body", f"the form is damaged ({error})") from None
    return Form(fields, images[0] if images else None)


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise bad_field(name, "is not UTF-8, expected text in UTF-8") from None


def decode_upload(data: bytes, most_pixels: int, size: tuple[int, int]) -> np.ndarray:
    """An uploaded picture as the network reads it.

    Args:
      data: the encoded bytes.
      most_pixels: of the picture; a larger one is refused before it is decoded.
      size: (height, width) of the result.

    Returns:
      uint8 [height, width, 3].

    Raises:
      Problem: 413, it has too many pixels; 415, it is no picture.
    """
    try:
        with DECODERS, open_picture(data) as image:
            width, height = image.size
            if width * height > most_pixels:
                raise TooManyPixelsError(f"{width} x {height} pixels", most_pixels)
            pixels = rgb_pixels(image)
    except PictureError as error:
        status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        if isinstance(error, TooManyPixelsError):
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        raise Problem(status, f"{IMAGE_FIELD}: the picture {error}") from None
    return pixels_of(pixels, size)
