"""Draws queries with what was retrieved for them: right images framed green, wrong ones red."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

RIGHT, WRONG, OWN = (30, 150, 70), (205, 45, 45), (50, 90, 170)
INK, FAINT, LINE = (25, 25, 30), (115, 115, 125), (222, 222, 228)
MARGIN, GAP, FRAME = 24, 10, 5
TILE_HEIGHT = 176
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
CAPTION_WIDTH = 330


def choose_examples(first_global: np.ndarray, first_reranked: np.ndarray, count: int) -> list[int]:
    """Picks queries to show, always the same ones: a mix, failures among them.

    Half were found by similarity already, a quarter was corrected by the decoder, a quarter is
    wrong after re-ranking. A kind that is too rare is filled up from the others. Within a kind
    they are spread evenly over the split.

    Args:
      first_global: int [Q], rank of the first right image by similarity, -1 without one.
      first_reranked: int [Q], the same after re-ranking.
    """
    top, before = first_reranked == 0, first_global == 0
    kinds = [top & before, top & ~before, ~top & (first_reranked > 0)]
    wanted = [count - 2 * (count // 4), count // 4, count // 4]
    chosen: list[int] = []
    for kind, number in zip(kinds, wanted, strict=True):
        chosen += _spread(np.flatnonzero(kind), number)
    rest = np.setdiff1d(np.flatnonzero(first_reranked >= 0), chosen)
    chosen += _spread(rest, count - len(chosen))
    return sorted(chosen, key=lambda q: ([kind[q] for kind in kinds].index(True), q))


@dataclasses.dataclass(frozen=True)
class Hit:
    """One retrieved image.

    Attributes:
      image: of any size.
      right: whether it shows the query's person.
      own: whether it is the very image that the caption describes.
      label: a few characters under the image.
    """

    image: Image.Image
    right: bool
    own: bool = False
    label: str = ""


@dataclasses.dataclass(frozen=True)
class Example:
    """One query with what was retrieved for it.

    Attributes:
      caption: the query.
      verdict: one short line about the result.
      described: the image that the caption describes.
      hits: best first.
    """

    caption: str
    verdict: str
    described: Image.Image
    hits: Sequence[Hit]


def retrieval_picture(examples: Sequence[Example], title: str, subtitle: str = "") -> Image.Image:
    """Draws one row per query: caption, described image, then the hits in rank order.

    Right images have a green frame and a tick, wrong ones a red frame and a cross, so that
    colour is not the only sign; the described image, when it is among them, is underlined in blue.

    Args:
      examples: at least one, all with the same number of hits.
    """
    ratios = [hit.image.width / hit.image.height for e in examples for hit in e.hits]
    inner = TILE_HEIGHT - 2 * FRAME
    tile = (round(inner * float(np.clip(np.median(ratios), 0.3, 1.2))) + 2 * FRAME, TILE_HEIGHT)
    hits = max(len(e.hits) for e in examples)
    first_hit = MARGIN + CAPTION_WIDTH + 2 * GAP + tile[0] + 4 * GAP
    width = first_hit + hits * (tile[0] + GAP) - GAP + MARGIN
    lines = _wrap(subtitle, _font(15), width - 2 * MARGIN)
    top = MARGIN + 36 + 20 * len(lines) + 2 * GAP
    row_height = TILE_HEIGHT + 20 + 2 * GAP
    picture = Image.new("RGB", (width, top + 24 + row_height * len(examples) + GAP), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN - 6), title, INK, _font(24))
    for i, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + 32 + 20 * i), line, FAINT, _font(15))
    described = MARGIN + CAPTION_WIDTH + 2 * GAP
    heads = [
        (described, "described"),
        *((first_hit + i * (tile[0] + GAP), i + 1) for i in range(hits)),
    ]
    for x, head in heads:
        draw.text((x + tile[0] / 2, top), str(head), FAINT, _font(14), anchor="ma")
    for i, example in enumerate(examples):
        y = top + 24 + i * row_height
        draw.line((MARGIN, y - 2, width - MARGIN, y - 2), LINE)
        y += GAP
        _caption(draw, example, (MARGIN, y))
        _paste(
            picture, example.described, (described + FRAME, y + FRAME), (tile[0] - 2 * FRAME, inner)
        )
        for rank, hit in enumerate(example.hits):
            _hit(picture, draw, hit, (first_hit + rank * (tile[0] + GAP), y), tile)
    return picture


def _caption(draw: ImageDraw.ImageDraw, example: Example, corner: tuple[int, int]) -> None:
    """Writes the caption, in a smaller font or shortened when it does not fit, and the verdict."""
    x, y = corner
    for size in (18, 16, 14, 12):
        lines = _wrap(example.caption, _font(size), CAPTION_WIDTH)
        room = (TILE_HEIGHT - 30) // (size + 4)
        if len(lines) <= room:
            break
    if len(lines) > room:
        last = lines[room - 1]
        while draw.textlength(f"{last} ...", _font(size)) > CAPTION_WIDTH:
            last = last[:-1]
        lines = [*lines[: room - 1], f"{last} ..."]
    for i, line in enumerate(lines):
        draw.text((x, y + i * (size + 4)), line, INK, _font(size))
    draw.text(
        (x, y + TILE_HEIGHT), example.verdict, _verdict_colour(example), _font(15), anchor="ls"
    )


def _verdict_colour(example: Example) -> tuple[int, int, int]:
    return RIGHT if example.hits and example.hits[0].right else WRONG


def _hit(picture, draw, hit: Hit, corner: tuple[int, int], tile: tuple[int, int]) -> None:
    (x, y), (w, h) = corner, tile
    colour = RIGHT if hit.right else WRONG
    draw.rectangle((x, y, x + w - 1, y + h - 1), fill=colour)
    inner = (w - 2 * FRAME, h - 2 * FRAME)
    _paste(picture, hit.image, (x + FRAME, y + FRAME), inner)
    badge = (x + w - 22, y + h - 22)  # a corner of the frame, with a tick or a cross in it
    draw.rectangle((*badge, x + w - 1, y + h - 1), fill=colour)
    strokes = (
        [((4, 11), (9, 16)), ((9, 16), (17, 6))]
        if hit.right
        else [((6, 6), (16, 16)), ((6, 16), (16, 6))]
    )
    for begin, end in strokes:
        points = [(badge[0] + px, badge[1] + py) for px, py in (begin, end)]
        draw.line(points, "white", 3)
    draw.text((x + w / 2, y + h + 4), hit.label, FAINT, _font(13), anchor="ma")
    if hit.own:
        draw.line((x, y + h + 21, x + w - 1, y + h + 21), OWN, 3)


def _paste(picture: Image.Image, image: Image.Image, corner, size: tuple[int, int]) -> None:
    """Pastes an image of any shape into a box, whole, on a grey ground."""
    box = Image.new("RGB", size, (238, 238, 241))
    scale = min(size[0] / image.width, size[1] / image.height)
    shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    scaled = image.convert("RGB").resize(shape, Image.Resampling.BICUBIC)
    box.paste(scaled, ((size[0] - shape[0]) // 2, (size[1] - shape[1]) // 2))
    picture.paste(box, corner)


def _font(size: int) -> Font:
    return ImageFont.load_default(size)  # comes with Pillow: no font file of the machine


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """Breaks text at blanks into lines of at most `width` pixels, long words anywhere."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return [line for line in lines if line]


def _spread(candidates: np.ndarray, number: int) -> list[int]:
    """At most `number` of the candidates, evenly spaced."""
    number = max(0, min(number, len(candidates)))
    places = (np.arange(number) + 0.5) * len(candidates) / max(number, 1)
    return candidates[places.astype(int)].tolist()
