"""Learning curves of an ablation: read from the runs' event files, drawn as SVG."""

import html
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cada_jax.common import files
from cada_jax.common.native_stderr import native_stderr_muted

WIDTH, HEIGHT, LEFT, TOP, LEGEND = 640, 360, 64, 44, 330
COLOURS = (
    *("#1b6ca8", "#c1442e", "#3a8f4b", "#8a5fb0", "#b8860b", "#444444"),
    *("#d16ba5", "#4aa3a2", "#7a5230", "#94b447", "#5c6bc0"),
)
Points = Sequence[tuple[float, float]]


def read_scalars(folder: pathlib.Path) -> dict[str, dict[int, float]]:
    """Name -> step -> value of all curves in a workdir.

    A run that was killed and continued wrote some steps twice; the later file counts.
    """
    found: dict[str, dict[int, float]] = {}
    paths = sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime)
    for path in paths:
        for name, step, value in _events(path):
            found.setdefault(name, {})[step] = value
    return found


def _events(path: pathlib.Path) -> Iterable[tuple[str, int, float]]:
    with native_stderr_muted():  # it takes seconds, and says what it lacks
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # that its reader is deprecated
    try:
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                array = tf.make_ndarray(value.tensor)
                if array.size == 1 and np.issubdtype(array.dtype, np.number):
                    yield value.tag, int(event.step), float(array)
    except tf.errors.DataLossError:  # a killed process leaves half a record at the end
        return


def mean_curve(curves: Sequence[dict[int, float]]) -> list[tuple[float, float]]:
    """The mean over runs at the steps that all of them have, by step."""
    steps = set.intersection(*(set(curve) for curve in curves)) if curves else set()
    return [(step, float(np.mean([c[step] for c in curves]))) for step in sorted(steps)]


def draw(path: str | os.PathLike, title: str, unit: str, series: Mapping[str, Points]) -> None:
    """Draws a line for each series over the steps, as an SVG file.

    Args:
      path: of the file.
      title: above the picture.
      unit: of the values.
      series: name -> (step, value), at least one point in all; empty ones are left out.
    """
    shown = {name: points for name, points in series.items() if points}
    steps = [x for points in shown.values() for x, _ in points]
    values = [y for points in shown.values() for _, y in points if np.isfinite(y)]
    if not values:
        raise ValueError(f"{title}: there is no point to draw")
    far = max(steps) or 1
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5

    def place(x: float, y: float) -> str:
        right = LEFT + (WIDTH - LEFT) * x / far
        return f"{right:.1f},{TOP + HEIGHT * (1 - (y - low) / (high - low)):.1f}"

    height = max(HEIGHT + 90, TOP + 30 + 20 * len(shown))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + LEGEND}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{html.escape(title)}</text>',
    ]
    parts += _axes(low, high, far, unit)
    for row, (name, points) in enumerate(shown.items()):
        colour = COLOURS[row % len(COLOURS)]
        dash = ' stroke-dasharray="6 3"' if row >= len(COLOURS) else ""
        placed = [place(x, y) for x, y in points if np.isfinite(y)]
        parts.append(
            f'<polyline points="{" ".join(placed)}" fill="none" stroke="{colour}" '
            f'stroke-width="2"{dash}/>'
        )
        for x, y in (point.split(",") for point in placed if len(placed) < 20):
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
        y = TOP + 14 + 20 * row
        parts.append(f'<text x="{WIDTH + 16}" y="{y}" fill="{colour}">{html.escape(name)}</text>')
    files.write_text(path, "\n".join([*parts, "</svg>\n"]))


def _axes(low: float, high: float, far: float, unit: str) -> list[str]:
    parts = []
    for i in range(6):
        y = TOP + HEIGHT * (1 - i / 5)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH}" y2="{y:.1f}" stroke="#ddd"/>')
        value = f"{low + (high - low) * i / 5:.4g}"
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value}</text>')
        x = LEFT + (WIDTH - LEFT) * i / 5
        step = f"{far * i / 5:.0f}"
        parts.append(
            f'<text x="{x:.1f}" y="{TOP + HEIGHT + 20}" text-anchor="middle">{step}</text>'
        )
    caption = f"{html.escape(unit)}, over steps"
    parts.append(f'<text x="{LEFT}" y="{TOP + HEIGHT + 42}">{caption}</text>')
    return parts
