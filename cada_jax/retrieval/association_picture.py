"""Heat maps of words over the picture that they describe, as one picture."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cada_jax.common.shapes import Float

MARGIN, GAP = 24, 10
TILE_HEIGHT, COLUMNS = 176, 10
INK = (25, 25, 30)


def association_picture(
    image: Image.Image,
    words: Sequence[str],
    maps: Float[np.ndarray, "T rows columns"],
    gates: Float[np.ndarray, "T"] | None = None,
) -> Image.Image:
    """Draws the image, then one heat map over it for every token.

    Every map is scaled to its own largest value: it shows where a token looks, not how much.

    Args:
      maps: float [T, rows, columns], not negative.
      gates: float [T], written under the maps, or None.
    """
    width = round(TILE_HEIGHT * image.width / image.height)
    tile = (max(width, 64), TILE_HEIGHT)
    count = len(words) + 1
    rows = -(-count // COLUMNS)
    step = tile[0] + GAP, tile[1] + 30
    picture = Image.new(
        "RGB",
        (2 * MARGIN + min(count, COLUMNS) * step[0] - GAP, 2 * MARGIN + rows * step[1] - GAP),
        "white",
    )
    draw = ImageDraw.Draw(picture)
    base = image.convert("RGB").resize(tile, Image.Resampling.BICUBIC)
    for i in range(count):
        x, y = MARGIN + i % COLUMNS * step[0], MARGIN + i // COLUMNS * step[1]
        if i == 0:
            picture.paste(base, (x, y))
            continue
        picture.paste(_heat(base, maps[i - 1]), (x, y))
        label = words[i - 1] if gates is None else f"{words[i - 1]}  {gates[i - 1]:.2f}"
        draw.text(
            (x + tile[0] / 2, y + tile[1] + 5), label, INK, ImageFont.load_default(14), anchor="ma"
        )
    return picture


def _heat(base: Image.Image, weights: Float[np.ndarray, "rows columns"]) -> Image.Image:
    """Lays one map [rows, columns] over an image: blue where it is low, red where it is high."""
    heat = np.asarray(weights, np.float32) / max(float(np.max(weights)), 1e-12)
    heat = Image.fromarray(heat).resize(base.size, Image.Resampling.BICUBIC)
    level = np.clip(np.asarray(heat), 0.0, 1.0)[..., None]
    stops = np.array([0.0, 0.35, 0.7, 1.0])
    colours = np.array([[40, 40, 120], [30, 150, 170], [250, 200, 60], [220, 40, 30]])
    colour = np.concatenate([np.interp(level, stops, colours[:, i]) for i in range(3)], axis=-1)
    grey = np.asarray(base.convert("L"), np.float32)[..., None]
    mixed = (0.45 + 0.1 * level) * colour + (0.55 - 0.1 * level) * grey
    return Image.fromarray(mixed.astype(np.uint8))
