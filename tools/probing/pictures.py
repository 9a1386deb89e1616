"""The measurements of one model as pictures: the gate by class of word, masked words by image."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tools.probing.masked_words import IMAGES

TITLES = {"right": "right image", "wrong": "another person's image", "none": "mean image"}
Bar = tuple[float, float, float]  # a value, and the lower and upper end of its spread


def draw_gates(path: pathlib.Path, gate: dict[str, Any]) -> None:
    """Draws the mean gate and its 5th to 95th percentile by class of word and layer."""
    series = [(i, which) for i in range(gate["layers"]) for which in ("right", "wrong")]
    groups = {
        f"{name} ({of_class['count']:,})": [
            tuple(of_class[which][i][figure] for figure in ("mean", "p5", "p95"))
            for i, which in series
        ]
        for name, of_class in gate["classes"].items()
    }
    names = [f"layer {i}, {TITLES[which]}" for i, which in series]
    draw(path, "ATP gate by class of word: mean, 5th to 95th percentile", names, groups)


def draw_masked(path: pathlib.Path, masked: dict[str, Any]) -> None:
    """Draws the accuracy of words masked one phrase at a time by class and image."""
    groups = {}
    for name, figures in masked["classes"].items():
        shares = [100 * figures[i]["accuracy"] for i in IMAGES]
        groups[f"{name} ({figures['count']:,})"] = [(share,) * 3 for share in shares]
    title = "Masked words, one phrase at a time: accuracy in percent"
    draw(path, title, [TITLES[i] for i in IMAGES], groups)


def draw(
    path: pathlib.Path, title: str, series: Sequence[str], groups: Mapping[str, Sequence[Bar]]
) -> None:
    """Draws horizontal bars with their spread, in groups.

    Args:
      path: of the picture; its kind is that of its suffix.
      title: above the picture.
      series: a name for each bar of a group.
      groups: name -> bars, one for each of `series`.
    """
    from matplotlib.figure import Figure

    figure = Figure((8, 1 + 0.2 * len(series) * len(groups)), layout="constrained")
    axes, height = figure.subplots(), 0.8 / len(series)
    bars = np.asarray(list(groups.values()), float)  # [groups, series, 3]
    for i, name in enumerate(series):
        value, low, high = bars[:, i].T
        places = np.arange(len(groups)) + i * height
        axes.barh(places, value, height, xerr=(value - low, high - value), label=name)
    axes.set_yticks(np.arange(len(groups)) + 0.4, groups)
    axes.invert_yaxis()
    axes.set_title(title)
    axes.legend()
    figure.savefig(path)
