"""Curves of seconds, drawn as an SVG file."""

import os
from collections.abc import Sequence

from cada_jax.common import files

MARK = "<!-- drawn by tools.bench -->"  # of the files that may be drawn again
WIDTH, HEIGHT, LEFT, TOP = 640, 360, 60, 40
COLOURS = ("#1b6ca8", "#c1442e", "#3a8f4b", "#8a5fb0")

Points = Sequence[tuple[float, float]]


def plot(path: str | os.PathLike, title: str, series: dict[str, Points]) -> None:
    """Draws lines through (x, seconds), both axes from 0, as an SVG file.

    Args:
      path: of the file.
      title: above the picture.
      series: name with its unit -> points; every series has its own x scale, its largest x. At
        most as many as there are `COLOURS`.
    """
    most = max(y for points in series.values() for _, y in points) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 260}" height="{HEIGHT + 80}" '
        'font-family="sans-serif" font-size="13">',
        MARK,
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{title}</text>',
    ]
    for i in range(6):
        y = TOP + HEIGHT * (1 - i / 5)
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH}" y2="{y}" stroke="#ddd"/>')
        value = f"{most * i / 5:.3g}"
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value}</text>')
    for row, (name, points) in enumerate(series.items()):
        parts += _curve(points, most, COLOURS[row])
        y = TOP + 20 + 22 * row
        parts.append(f'<text x="{WIDTH + 16}" y="{y}" fill="{COLOURS[row]}">{name}</text>')
    caption = "seconds, upwards; each point with its size"
    parts.append(f'<text x="{LEFT}" y="{HEIGHT + 70}">{caption}</text>')
    files.write_text(path, "\n".join([*parts, "</svg>\n"]))


def _curve(points: Points, most: float, colour: str) -> list[str]:
    """A line through the points, and each point with its x."""
    far = max(x for x, _ in points)
    placed = [(LEFT + (WIDTH - LEFT) * x / far, TOP + HEIGHT * (1 - y / most)) for x, y in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(LEFT, TOP + HEIGHT), *placed])
    parts = [
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" '
        'stroke-dasharray="5 3"/>'
    ]
    for (x, y), (value, _) in zip(placed, points, strict=True):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{x:.1f}" y="{y - 8:.1f}" fill="{colour}">{value:g}</text>')
    return parts
