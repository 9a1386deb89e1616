"""Association maps as a figure for a paper, and as arrays."""

import os
import warnings

import numpy as np
from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.common.files import whole_file
from cada_jax.retrieval.association_maps import WordAssociations

COLUMNS = 10  # tiles in a row of the figure, the picture itself among them
TILE = 0.9  # inches, the width of a tile
DPI = 200
# Above so many patches in all a PDF holds each map as a small bitmap; below, every patch is a path.
MOST_PATHS = 50_000


def save_arrays(path: str | os.PathLike, caption: str, seen: WordAssociations, model: str) -> None:
    """Writes one .npz file, whole or not at all.

    It holds `words` [W], `maps` float32 [W,rows,columns] as they would be drawn, `weights` float32
    [W,layers,heads,rows,columns], `gates` float32 [W,layers] (no rows without gates), `caption`,
    and `cada_jax`, the SHA-256 of the model's parameters.
    """
    gates = np.zeros((0, seen.weights.shape[1]), np.float32) if seen.gates is None else seen.gates
    arrays = {"words": np.array(seen.words), "maps": seen.maps, "weights": seen.weights}
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays, gates=gates, caption=np.array(caption), cada_jax=np.array(model))


def save_figure(
    path: str | os.PathLike, image: Image.Image, rows: list[tuple[str, WordAssociations]]
) -> None:
    """Writes a PNG or a PDF, by the path's ending, whole or not at all.

    Every map is scaled to its own largest weight: it shows where a word looks, not how much. The
    number behind a word is its gate.

    Args:
      path: ends in .png or .pdf.
      image: what the words attended to.
      rows: (title, what to draw), one below the other.

    Raises:
      UsageError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as e:
        raise UsageError(
            "drawing maps needs matplotlib: pip install 'cada_jax[search]', or write .npz"
        ) from e
    ending = os.path.splitext(os.fspath(path))[1].lower().removeprefix(".")
    words = len(rows[0][1].words)
    columns = min(COLUMNS, words + 1)
    lines = -(-(words + 1) // columns)
    height = TILE * image.height / image.width + 0.3
    size = columns * (TILE + 0.1), len(rows) * (lines * height + 0.3) + 0.1
    vector = sum(seen.maps.size for _, seen in rows) <= MOST_PATHS
    # TrueType, as journals ask for; a word of the caption is never a formula.
    settings = {"pdf.fonttype": 42, "text.parse_math": False}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks
        figure = Figure(size)
        parts = np.ravel(np.asarray(figure.subfigures(len(rows), 1, squeeze=False)))
        for part, (title, seen) in zip(parts, rows, strict=True):
            if title:
                part.suptitle(title, fontsize=8, x=0.02, ha="left")
            top = 1 - 0.3 / (lines * height + 0.3)
            axes = part.subplots(
                lines, columns, squeeze=False, gridspec_kw=_margins(top, height)
            ).reshape(-1)
            _draw(axes, image, seen, vector)
        mark = {"Software" if ending == "png" else "Creator": "cada_jax maps"}
        with whole_file(path) as partial:
            figure.savefig(partial, format=ending, dpi=DPI, metadata=mark)


def _margins(top: float, height: float) -> dict[str, float]:
    sides = {"left": 0.01, "right": 0.99, "bottom": 0.01, "top": top}
    return {**sides, "wspace": 0.08, "hspace": 0.3 / height}


def _draw(axes, image: Image.Image, seen: WordAssociations, vector: bool) -> None:
    """Draws the picture and a map for each word into axes, and takes the others out."""
    gate = seen.gate
    grey = np.asarray(image.convert("L"))
    edges = [np.linspace(0, n, m + 1) for n, m in zip(grey.shape, seen.maps.shape[1:], strict=True)]
    for ax in axes:
        ax.set_axis_off()
    axes[0].imshow(np.asarray(image.convert("RGB")))
    for i, (ax, word, weights) in enumerate(zip(axes[1:], seen.words, seen.maps, strict=False)):
        ax.imshow(grey, cmap="gray", vmin=0, vmax=255)
        look = dict(cmap="inferno", alpha=0.6, vmin=0, vmax=max(float(weights.max()), 1e-12))
        if vector:
            ax.pcolormesh(edges[1], edges[0], weights, edgecolors="none", linewidth=0, **look)
        else:
            extent = (0, grey.shape[1], grey.shape[0], 0)
            ax.imshow(weights, extent=extent, interpolation="nearest", **look)
        ax.set_title(word if gate is None else f"{word} {gate[i]:.2f}", fontsize=6, pad=2)
