"""What became of every tensor and every parameter of a conversion."""

from typing import NamedTuple

STATUSES = ("loaded", "resized", "new", "left out")


class Row(NamedTuple):
    """One line of a report: a PyTorch tensor (or one per layer) and the leaves it became.

    A tensor that was changed on its way has a line more, with status "resized".
    """

    status: str  # one of STATUSES
    theirs: str
    their_shape: str
    ours: str
    our_shape: str


def format_report(rows: list[Row]) -> str:
    """Aligned text of a report, loaded first, with a count of each status at the end."""
    header = Row("status", "PyTorch", "shape", "cada_jax", "shape")
    lines = [header, *rows]
    widths = [max(len(row[column]) for row in lines) for column in range(len(header))]
    text = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in lines]
    count = {status: sum(row.status == status for row in rows) for status in STATUSES}
    shown = [f"{count[s]} {s}" for s in STATUSES if count[s] or s != "resized"]
    return "\n".join([*(line.rstrip() for line in text), f"rows: {', '.join(shown)}"])


def format_shape(shape: tuple[int, ...]) -> str:
    """(2, 3) -> "2x3", () -> "scalar"."""
    return "x".join(map(str, shape)) or "scalar"
