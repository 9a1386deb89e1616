"""Picture files of every kind that people keep, made in memory."""

import io
import struct

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 61, 43


def photo(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Smooth waves, as a photograph is: uint8 [height,width,3], no two corners alike."""
    rows, columns = np.mgrid[:height, :width] / 10
    waves = [np.sin(rows + k) * np.cos(columns * (k + 1)) for k in range(3)]
    return (np.stack(waves, -1) * 100 + 128).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.copy().save(file, kind, **options)  # Pillow keeps settings of a file in the image
    return file.getvalue()


def rotated(kind: str, turn: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    return encoded(PHOTO, kind, exif=exif)


def png_16_bit(channels: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write; its upper halves are the photo's."""
    import zlib

    high = photo().astype(np.uint16)[..., :channels]
    low = np.arange(high.size, dtype=np.uint16).reshape(high.shape) % 256
    rows = (high << 8 | low).astype(">u2").reshape(HEIGHT, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    colour = {1: 0, 3: 2}[channels]
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def with_alpha(mode: str) -> Image.Image:
    image = PHOTO.convert(mode)
    alpha = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    image.putalpha(Image.fromarray(alpha))
    return image


PHOTO = Image.fromarray(photo())
NOISE = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
)
GREY = PHOTO.convert("L")


def heic(image: Image.Image, **options) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return encoded(image, "HEIF", **options)


JPEG = {
    "baseline": encoded(PHOTO, "JPEG", quality=90),
    "progressive": encoded(PHOTO, "JPEG", quality=90, progressive=True),
    "4:4:4": encoded(PHOTO, "JPEG", quality=90, subsampling=0),
    "4:2:2": encoded(PHOTO, "JPEG", quality=90, subsampling=1),
    "quality 50": encoded(PHOTO, "JPEG", quality=50),
    "quality 100": encoded(PHOTO, "JPEG", quality=100),
    "grey": encoded(GREY, "JPEG"),
    "restart markers": encoded(PHOTO, "JPEG", quality=90, restart_marker_blocks=2),
    "RGB inside": encoded(PHOTO, "JPEG", quality=90, keep_rgb=True),
    "CMYK": encoded(PHOTO.convert("CMYK"), "JPEG", quality=95),
    "junk behind": encoded(PHOTO, "JPEG", quality=90) + b"junk" * 9,
    "MPO": encoded(PHOTO, "MPO", save_all=True, append_images=[NOISE.copy()]),
    **{f"EXIF {turn}": rotated("JPEG", turn) for turn in range(1, 9)},
}
PNG = {
    "RGB": encoded(PHOTO, "PNG"),
    "noise": encoded(NOISE, "PNG"),
    "grey": encoded(GREY, "PNG"),
    "1 bit": encoded(PHOTO.convert("1"), "PNG"),
    "palette": encoded(PHOTO.convert("P"), "PNG"),
    "palette of 2 bits": encoded(PHOTO.quantize(4), "PNG", bits=2),
    "RGB and alpha": encoded(with_alpha("RGB"), "PNG"),
    "grey and alpha": encoded(with_alpha("L"), "PNG"),
    "one clear colour": encoded(PHOTO, "PNG", transparency=(1, 2, 3)),
    "clear palette": encoded(PHOTO.convert("P"), "PNG", transparency=bytes(range(256))),
    "EXIF 6": rotated("PNG", 6),
    "16 bits grey": png_16_bit(1),
    "16 bits": png_16_bit(3),
}
OTHERS = {
    "BMP": encoded(PHOTO, "BMP"),
    "BMP, grey": encoded(GREY, "BMP"),
    "BMP, palette": encoded(PHOTO.convert("P"), "BMP"),
    "BMP, 1 bit": encoded(PHOTO.convert("1"), "BMP"),
    "BMP, alpha": encoded(with_alpha("RGB"), "BMP"),
    "GIF": encoded(PHOTO, "GIF"),
    "GIF, two pictures": encoded(PHOTO, "GIF", save_all=True, append_images=[NOISE.copy()]),
    "WebP": encoded(PHOTO, "WEBP"),
    "WebP, lossless": encoded(PHOTO, "WEBP", lossless=True),
    "WebP, alpha": encoded(with_alpha("RGB"), "WEBP", lossless=True, exact=True),
    "WebP, EXIF 8": rotated("WEBP", 8),
    "TIFF": encoded(PHOTO, "TIFF"),
    "TIFF, EXIF 3": rotated("TIFF", 3),
    "TIFF, LZW": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
    "TIFF, CMYK": encoded(PHOTO.convert("CMYK"), "TIFF"),
    "TIFF, 1 bit": encoded(PHOTO.convert("1"), "TIFF"),
    "TIFF, 16 bits": encoded(
        Image.fromarray((photo()[..., 0].astype(np.uint16) << 8) + 77), "TIFF"
    ),
    "TIFF, two pictures": encoded(PHOTO, "TIFF", save_all=True, append_images=[NOISE.copy()]),
    "AVIF": encoded(PHOTO, "AVIF", quality=90),
    "AVIF, EXIF 6": rotated("AVIF", 6),
    "HEIC": heic(PHOTO, quality=90),
    "HEIC, EXIF 6": heic(
        PHOTO, quality=90, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6" + bytes(6)
    ),
    "HEIC, ten pictures": heic(PHOTO, quality=90, save_all=True, append_images=[NOISE] * 9),
}
EVERY_KIND = {
    **{f"JPEG, {kind}": data for kind, data in JPEG.items()},
    **{f"PNG, {kind}": data for kind, data in PNG.items()},
    **OTHERS,
}
