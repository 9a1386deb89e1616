"""Results as a table of text, as wide as the terminal."""

from collections.abc import Sequence

from cada_jax.gallery.results.printable import columns, printable, shortened
from cada_jax.retriever import Hit

HEADER = ("", "score", "match", "similarity", "path", "box")
LEAST_PATH = 16  # columns that a path is given on a terminal however narrow
GAP = "  "


def table(hits: Sequence[Hit], width: int | None) -> str:
    """One line for each result under a header: rank, scores, path, and the box where there is one.

    Args:
      hits: best first.
      width: columns of the terminal; longer paths lose their beginning. None keeps them whole.
    """
    rows = [HEADER, *(_cells(rank, hit) for rank, hit in enumerate(hits, 1))]
    boxed = any(row[-1] for row in rows[1:])
    rows = [row if boxed else row[:-1] for row in rows]
    path = HEADER.index("path")
    widths = [max(columns(row[i]) for row in rows) for i in range(len(rows[0]))]
    if width is not None:
        others = sum(widths) - widths[path] + len(GAP) * (len(widths) - 1)
        widths[path] = min(widths[path], max(LEAST_PATH, width - others))
    return "\n".join(_line(row, widths, path) for row in rows)


def _cells(rank: int, hit: Hit) -> tuple[str, ...]:
    match = "" if hit.match_logit is None else f"{hit.match_logit:.2f}"
    box = hit.picture.box
    corners = "" if box is None else ",".join(f"{side:.0f}" for side in box)
    name = printable(hit.name or hit.picture.id)
    return str(rank), f"{hit.score:.2f}", match, f"{hit.similarity:.3f}", name, corners


def _line(row: Sequence[str], widths: Sequence[int], path: int) -> str:
    cells = []
    for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
        cell = shortened(cell, width)
        blanks = " " * (width - columns(cell))
        cells.append(cell + blanks if i >= path else blanks + cell)
    return GAP.join(cells).rstrip()
