"""Association maps as a figure for a paper, and as arrays."""

import pathlib
import warnings

import numpy as np
from PIL import Image

from cada_jax.common.errors import needs_extra
from cada_jax.common.files import whole_file
from cada_jax.retrieval.association_maps import WordAssociations

COLUMNS = 10  # tiles in a row of the figure, the picture itself among them
TILE = 0.9  # inches, the width of a tile
DPI = 200
MOST_PATHS = 50_000  # patches; of more, a PDF holds each map as a bitmap


def save_arrays(path: pathlib.Path, caption: str, seen: WordAssociations, model: str) -> None:
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
    path: pathlib.Path, image: Image.Image, rows: list[tuple[str, WordAssociations]]
) -> None:
    """Writes a PNG or a PDF, by the path's ending, whole or not at all.

    Every map is scaled to its own largest weight: it shows where a word looks, not how much. The
    number behind a word is its gate.

    Args:
      path: ends in .png or .pdf.
      image: what the words attended to.
      rows: (title, what to draw), one below the other.
    """
    with needs_extra("search"):
        import matplotlib
        from matplotlib.figure import Figure
    columns = min(COLUMNS, len(rows[0][1].words) + 1)
    lines = -(-(len(rows[0][1].words) + 1) // columns)
    height = TILE * image.height / image.width + 0.3
    size = columns * (TILE + 0.1), len(rows) * (lines * height + 0.3) + 0.1
    place = dict(left=0.01, right=0.99, bottom=0.01, top=1 - 0.3 / (lines * height + 0.3))
    place |= dict(wspace=0.08, hspace=0.3 / height)
    many = sum(seen.maps.size for _, seen in rows) > MOST_PATHS
    # TrueType, as journals ask for; a word of the caption is never a formula.
    settings = {"pdf.fonttype": 42, "text.parse_math": False}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks
        figure = Figure(size)
        parts = np.ravel(figure.subfigures(len(rows), 1, squeeze=False))
        for part, (title, seen) in zip(parts, rows, strict=True):
            part.suptitle(title, fontsize=8, x=0.02, ha="left")
            axes = part.subplots(lines, columns, squeeze=False, gridspec_kw=place)
            _draw(axes.reshape(-1), image, seen, many)
        with whole_file(path) as partial:
            figure.savefig(partial, format=path.suffix.lower()[1:], dpi=DPI)


def _draw(axes, image: Image.Image, seen: WordAssociations, rasterized: bool) -> None:
    """Draws the picture and a map for each word into axes, and takes the others out."""
    gate, grey = seen.gate, np.asarray(image.convert("L"))
    edges = [np.linspace(0, n, m + 1) for n, m in zip(grey.shape, seen.maps.shape[1:], strict=True)]
    for ax in axes:
        ax.set_axis_off()
    axes[0].imshow(np.asarray(image.convert("RGB")))
    for i, (ax, word, weights) in enumerate(zip(axes[1:], seen.words, seen.maps, strict=False)):
        ax.imshow(grey, cmap="gray", vmin=0, vmax=255)
        look = dict(cmap="inferno", alpha=0.6, vmin=0, vmax=max(float(weights.max()), 1e-12))
        ax.pcolormesh(
            edges[1],
            edges[0],
            weights,
            rasterized=rasterized,
            edgecolors="none",
            linewidth=0,
            **look,
        )
        ax.set_title(word if gate is None else f"{word} {gate[i]:.2f}", fontsize=6, pad=2)
