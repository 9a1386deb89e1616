"""What is stored of an image file: its own bytes, or its pixels as PNG.

TensorFlow decodes images at training time, Pillow everywhere else. A file that both decode to the
same picture is stored as it is; any other is turned into PNG once. Imports no TensorFlow, because
worker processes run it.

Two JPEG decoders never agree to the last bit. Of smooth photographs TensorFlow's pixels differ from
Pillow's by 1 grey level on average at quality 50 to 90 (5 at most) and by 2.5 at quality 100 (11 at
most); `tests/data/preparation/test_stored_image.py` holds that bound.
"""

from cada_jax.common.images import encode_png, open_picture, orientation, rgb_pixels

BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2  # frames of 8 bits, coded by Huffman's method
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # markers between 0xC0 and 0xCF that begin none
_BIT_DEPTH = 24  # where a PNG file says how many bits a channel has


def stored_form(data: bytes) -> bytes:
    """Returns the JPEG or PNG file to store for an image file.

    Raises:
      PictureError: it is no usable picture; all of it was decoded to know.
    """
    with open_picture(data) as image:
        if image.format in ("JPEG", "MPO"):
            kept = image.mode in ("L", "RGB") and _is_plain_jpeg(data)
            if kept:
                # An eighth of the size: all of the file is decoded, which is what can fail, and
                # the inverse transform of its blocks, half of the time, is left out.
                image.draft(None, (1, 1))
                image.load()
        else:
            kept = image.format == "PNG" and data[_BIT_DEPTH] <= 8
            if kept:
                image.load()
        if kept and orientation(image) == 1:
            return data
    return _as_png(data)


def _as_png(data: bytes) -> bytes:
    with open_picture(data) as image:
        return encode_png(rgb_pixels(image))


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether TensorFlow's decoder knows the kind: no arithmetic coding, no lossless frames."""
    return _frame_marker(data) in (BASELINE, EXTENDED, PROGRESSIVE)


def _frame_marker(data: bytes) -> int:
    """The marker (0xC0 to 0xCF) that begins the first frame of a JPEG file, 0 if there is none."""
    at = 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:  # junk, or a fill byte
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            return marker
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD9:  # these have no length
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return 0


def first_bytes_are_jpeg(data: bytes) -> bool:
    """Whether stored bytes are a JPEG file; otherwise they are PNG."""
    return data[:2] == b"\xff\xd8"
