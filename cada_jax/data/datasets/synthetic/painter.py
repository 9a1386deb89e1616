"""Shapes in a person's own coordinates, drawn with Pillow.

A point is (u, v): v runs from 0 at the top of the head to 1 at the soles, u to the
right from the middle of the body, both in heights of the person.
"""

from collections.abc import Sequence
from typing import Any

from PIL import ImageDraw

Color = tuple[int, int, int]
Point = tuple[float, float]


def shade(color: Color, factor: float) -> Color:
    """Returns the colour darkened (factor < 1) or moved towards white (factor > 1)."""
    if factor <= 1:
        red, green, blue = (int(c * factor) for c in color)
    else:
        red, green, blue = (min(255, int(c + (255 - c) * (factor - 1))) for c in color)
    return red, green, blue


def luminance(color: Color) -> float:
    """Returns how bright a colour is, 0 to 255."""
    return 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]


def contrast(color: Color) -> Color:
    """Returns the colour in which a pattern on `color` is printed."""
    return (250, 250, 246) if luminance(color) < 150 else (40, 40, 56)


class Painter:
    """Draws on an image; the transformation from body to pixel coordinates is fixed.

    Args:
        draw: of the supersampled image.
        scale: pixels per unit of u and v.
        x, y: pixel of the point (0, 0).
        lean: shift of u per unit of v, applied around the feet.
        width: over that of a usual person; negative to swap left and right.
        ink: colour of outlines; None: without.
    """

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        scale: float,
        x: float,
        y: float,
        lean: float = 0.0,
        width: float = 1.0,
        ink: Color | None = None,
    ):
        self.draw = draw
        self.scale = scale
        self.x = x + lean * scale
        self.y = y
        self.skew = -lean * scale
        self.width = width * scale
        self.outline: dict[str, Any] = {} if ink is None else {"outline": ink, "width": 2}

    def enlarged(self, factor: float, v: float) -> "Painter":
        """Returns a painter for a part drawn `factor` times as large around the point (0, v)."""
        x, y = self._point(0.0, v)
        part = Painter(self.draw, self.scale * factor, x, y - v * self.scale * factor)
        part.width, part.skew, part.outline = self.width * factor, 0.0, self.outline
        return part

    def _point(self, u: float, v: float) -> Point:
        return self.x + u * self.width + v * self.skew, self.y + v * self.scale

    def poly(self, points: Sequence[Point], color: Color) -> None:
        """Fills a polygon."""
        x, y, w, k, s = self.x, self.y, self.width, self.skew, self.scale
        self.draw.polygon(
            [(x + u * w + v * k, y + v * s) for u, v in points], fill=color, **self.outline
        )

    def band(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        """Fills an upright box."""
        self.poly(((left, top), (right, top), (right, bottom), (left, bottom)), color)

    def disc(self, u: float, v: float, ru: float, rv: float, color: Color) -> None:
        """Fills an ellipse with radii `ru` and `rv`."""
        x, y = self._point(u, v)
        a, b = ru * self.scale, rv * self.scale
        self.draw.ellipse((x - a, y - b, x + a, y + b), fill=color, **self.outline)

    def dome(self, u: float, v: float, ru: float, rv: float, color: Color, start=180) -> None:
        """Fills the upper half of an ellipse around (u, v)."""
        x, y = self._point(u, v)
        a, b = ru * self.scale, rv * self.scale
        self.draw.pieslice((x - a, y - b, x + a, y + b), start, start + 180, fill=color)

    def bowl(self, u: float, v: float, ru: float, rv: float, color: Color) -> None:
        """Fills the lower half of an ellipse around (u, v)."""
        self.dome(u, v, ru, rv, color, start=0)

    def ring(self, u: float, v: float, ru: float, rv: float, color: Color, width: float) -> None:
        """Strokes an ellipse."""
        x, y = self._point(u, v)
        a, b = ru * self.scale, rv * self.scale
        self.draw.ellipse(
            (x - a, y - b, x + a, y + b), outline=color, width=max(1, round(width * self.scale))
        )

    def line(self, points: Sequence[Point], color: Color, width: float) -> None:
        """Strokes a path; `width` in body units."""
        self.draw.line(
            [self._point(u, v) for u, v in points],
            fill=color,
            width=max(1, round(width * self.scale)),
            joint="curve",
        )

    def limb(self, points: Sequence[Point], radii: Sequence[float], color: Color) -> None:
        """Draws round joints at `points` with the given radii and the limb between them."""
        draw, scale = self.draw, self.scale
        before = None
        for (u, v), radius in zip(points, radii, strict=True):
            (x, y), r = self._point(u, v), radius * scale
            if before is not None:
                px, py, pr = before
                dx, dy = x - px, y - py
                length = (dx * dx + dy * dy) ** 0.5 or 1.0
                nx, ny = -dy / length, dx / length
                one = [(px + nx * pr, py + ny * pr), (x + nx * r, y + ny * r)]
                other = [(x - nx * r, y - ny * r), (px - nx * pr, py - ny * pr)]
                draw.polygon([*one, *other], fill=color)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=color)
            before = x, y, r
