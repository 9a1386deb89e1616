"""Learning curves of an ablation: read from the runs' event files, drawn."""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cada_jax.common.native_stderr import native_stderr_muted

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
    """Draws a line for each series over the steps.

    Args:
      path: of the file; its kind is that of its suffix.
      title: above the picture.
      unit: of the values.
      series: name -> (step, value); empty ones are left out.
    """
    from matplotlib.figure import Figure

    figure = Figure((9, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in series.items():
        if points:
            axes.plot(*zip(*points, strict=True), label=name)
    axes.set(title=title, xlabel="steps", ylabel=unit)
    figure.legend(loc="outside right upper")
    figure.savefig(path)
