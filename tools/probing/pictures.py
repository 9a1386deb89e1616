"""The measurements of one model as pictures: the gate by class of word, masked words by image."""

import html
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cada_jax.common.files import write_text
from tools.ablation.curves import COLOURS
from tools.probing.masked_words import IMAGES

WIDTH, LEFT, TOP, ROW, GAP = 760, 210, 70, 15, 12
TITLES = {"right": "right image", "wrong": "another person's image", "none": "mean image"}


class Bar(NamedTuple):
    """One line of a group: a value, and where there is a spread its lower and upper end."""

    value: float
    low: float | None = None
    high: float | None = None


def draw_gates(path: pathlib.Path, gate: dict[str, Any]) -> None:
    """Draws the mean gate and its 5th to 95th percentile by class of word and layer, as SVG."""
    layers = range(gate["layers"])
    groups = {}
    for name, of_class in gate["classes"].items():
        spreads = [(which, of_class[which][i]) for i in layers for which in ("right", "wrong")]
        groups[f"{name} ({of_class['count']:,})"] = [
            Bar(s["mean"], s["p5"], s["p95"]) for _, s in spreads
        ]
    series = [f"layer {i}, {TITLES[which]}" for i in layers for which in ("right", "wrong")]
    title = "ATP gate by class of word: mean, 5th to 95th percentile"
    draw(path, title, series, groups, 2.0)


def draw_masked(path: pathlib.Path, masked: dict[str, Any]) -> None:
    """Draws the accuracy of words masked one phrase at a time by class and image, as SVG."""
    groups = {}
    for name, figures in masked["classes"].items():
        groups[f"{name} ({figures['count']:,})"] = [
            Bar(100 * figures[i]["accuracy"]) for i in IMAGES
        ]
        if "same" in figures["right"]:
            groups[f"{name}, or a synonym"] = [Bar(100 * figures[i]["same"]) for i in IMAGES]
    title = "Masked words, one phrase at a time: accuracy in percent"
    draw(path, title, [TITLES[i] for i in IMAGES], groups, 100.0)


def draw(
    path: pathlib.Path,
    title: str,
    series: Sequence[str],
    groups: Mapping[str, Sequence[Bar]],
    most: float,
) -> None:
    """Draws horizontal bars, or dots with spreads, in groups.

    Args:
      path: of the SVG file.
      title: above the picture.
      series: a name for each bar of a group.
      groups: name -> bars, one for each of `series`.
      most: the right end of the axis, which begins at 0.
    """
    columns = 3
    top = TOP + 20 * (-(-len(series) // columns) - 1)
    height = top + len(groups) * (len(series) * ROW + GAP) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="16" y="22" font-size="15">{html.escape(title)}</text>',
    ]
    for i, name in enumerate(series):
        x, y = 16 + 245 * (i % columns), 44 + 20 * (i // columns)
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{_colour(i)}"/>')
        parts.append(f'<text x="{x + 16}" y="{y}">{html.escape(name)}</text>')

    def place(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - 60) * min(value, most) / most, 1)

    for i in range(5):
        x = place(most * i / 4)
        parts.append(
            f'<line x1="{x}" y1="{top - 6}" x2="{x}" y2="{height - 34}" stroke="#ddd"/>'
            f'<text x="{x}" y="{height - 18}" text-anchor="middle">{most * i / 4:g}</text>'
        )
    y = top
    for name, bars in groups.items():
        middle = y + len(bars) * ROW / 2 + 4
        parts.append(
            f'<text x="{LEFT - 10}" y="{middle}" text-anchor="end">{html.escape(name)}</text>'
        )
        for i, bar in enumerate(bars):
            parts += _bar(bar, _colour(i), y + i * ROW, place)
        y += len(bars) * ROW + GAP
    write_text(path, "\n".join([*parts, "</svg>\n"]))


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _bar(bar: Bar, colour: str, y: int, place) -> list[str]:
    """A bar from 0 to the value, or a dot on its spread; with the value behind it."""
    middle, x = y + ROW / 2, place(bar.value)
    number = f"{bar.value:.2f}" if bar.low is not None else f"{bar.value:.1f}"
    end = x if bar.high is None else max(x, place(bar.high))
    text = f'<text x="{end + 6}" y="{middle + 4}" font-size="11">{number}</text>'
    if bar.low is None or bar.high is None:
        width = round(x - place(0), 1)
        shape = f'<rect x="{place(0)}" y="{y + 1}" width="{width}" height="{ROW - 3}" '
        return [f'{shape}fill="{colour}"/>', text]
    return [
        f'<line x1="{place(bar.low)}" y1="{middle}" x2="{place(bar.high)}" y2="{middle}" '
        f'stroke="{colour}" stroke-width="2"/><circle cx="{x}" cy="{middle}" r="4" '
        f'fill="{colour}"/>',
        text,
    ]
