"""Results as one picture: the query above, the found pictures with rank and score below."""

import os
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from cada_jax.common.files import whole_file
from cada_jax.gallery.results.crops import crop_of, fitted
from cada_jax.gallery.results.printable import printable
from cada_jax.retriever import Hit

TILE, CAPTION, GAP, MARGIN = (160, 240), 40, 12, 24
COLUMNS = 8
INK, FAINT, MISSING = (25, 25, 30), (110, 110, 118), (232, 232, 236)
SIZE, SMALL = 18, 13


def sheet(title: str, hits: Sequence[Hit]) -> Image.Image:
    """Draws the results, best first, from left to right.

    Args:
      title: what was asked.
      hits: a file that is gone leaves an empty tile.
    """
    columns = max(1, min(COLUMNS, len(hits)))
    rows = -(-len(hits) // columns)
    step = TILE[0] + GAP, TILE[1] + CAPTION + GAP
    width = 2 * MARGIN + max(columns, 3) * step[0] - GAP
    lines = _wrapped(printable(title), width - 2 * MARGIN)
    top = MARGIN + len(lines) * (SIZE + 8) + GAP
    picture = Image.new("RGB", (width, top + rows * step[1] + MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + number * (SIZE + 8)), line, INK, ImageFont.load_default(SIZE))
    for number, hit in enumerate(hits):
        corner = MARGIN + number % columns * step[0], top + number // columns * step[1]
        _tile(picture, draw, corner, number + 1, hit)
    return picture


def _tile(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    rank: int,
    hit: Hit,
) -> None:
    x, y = corner
    image = crop_of(hit.picture)
    if image is None:
        draw.rectangle((x, y, x + TILE[0] - 1, y + TILE[1] - 1), MISSING)
        middle = x + TILE[0] / 2, y + TILE[1] / 2
        draw.text(middle, "file is gone", FAINT, ImageFont.load_default(SMALL), anchor="mm")
    else:
        image = fitted(image, TILE)
        picture.paste(image, (x + (TILE[0] - image.width) // 2, y + TILE[1] - image.height))
    small = ImageFont.load_default(SMALL)
    draw.text((x, y + TILE[1] + 4), f"{rank}   score {hit.score:.2f}", INK, small)
    name = printable(os.path.basename(hit.name) or hit.picture.id)
    while name and draw.textlength(name, small) > TILE[0]:
        name = name[1:]
    draw.text((x, y + TILE[1] + 20), name, FAINT, small)


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` pixels; a word that is longer is cut."""
    font, lines = ImageFont.load_default(SIZE), [""]
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    for word in text.split():
        while measure.textlength(word, font) > width:
            word = word[: len(word) // 2]
        longer = f"{lines[-1]} {word}".strip()
        lines = (
            [*lines[:-1], longer] if measure.textlength(longer, font) <= width else [*lines, word]
        )
    return lines


def save_sheet(path: str | os.PathLike, title: str, hits: Sequence[Hit]) -> None:
    """Writes `sheet` to a PNG file, whole or not at all."""
    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", "cada_jax search")
    with whole_file(path) as partial:
        sheet(title, hits).save(partial, "PNG", pnginfo=mark)
