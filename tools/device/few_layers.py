"""Figures of a whole network from programs of a few layers, which compile much faster.

Memory, time, FLOP and bytes sent grow by the same amount with each layer, because the layers are
alike. So programs of two and of four layers give what a layer adds. What is added up is no longer a
compiled program: the compiler may do something else once memory runs short.
"""

from collections.abc import Sequence
from typing import Any

FEW, MORE = 2, 4
# Of a report of `tools.device.compile`: what grows with the layers.
_GROWS = ("flops_a_device", "ideal_ms")


def depths(image: int, text: int) -> list[tuple[int, int]]:
    """Layers (image, text) of the programs to compile: the first, and one for each direction."""
    if image == text:
        return [(FEW, FEW), (MORE, MORE)]
    return [(FEW, FEW), (MORE, FEW), (FEW, MORE)]


def carry_on(
    reports: Sequence[dict[str, Any]], image: int, text: int, limit: float
) -> dict[str, Any]:
    """The report of a network of `image` and `text` layers.

    Args:
      reports: of `tools.device.compile` at `depths(image, text)`, in that order. Where one was
        refused, the whole is.
      image: layers of the image encoder.
      text: layers of text encoder and decoders.
      limit: bytes of a device's memory that a program may take.

    Returns:
      The first report with the memory, the estimate, FLOP and bytes sent of the whole.
    """
    refused = [report for report in reports if report["memory"]["refused"]]
    if refused:
        return refused[0]
    layers = (image,) if image == text else (image, text)
    steps = [(number - FEW) / (MORE - FEW) for number in layers]
    first = reports[0]

    def grown(*path: str) -> float:
        values = [_at(report, path) for report in reports]
        added = zip(values[1:], steps, strict=True)
        return values[0] + sum(step * (value - values[0]) for value, step in added)

    sent = {name for report in reports for name in report["collective_bytes"]}
    memory = {name: round(grown("memory", name)) for name in ("inputs", "running")}
    memory["total"] = sum(memory.values())
    whole = {name: grown(name) for name in _GROWS}
    estimate = first["estimate"]
    if estimate is not None:
        ms = grown("estimate", "ms")
        # FLOP a second over what the compiler gives a large product, which no depth changes.
        rate = estimate["share_of_product"] * estimate["ms"] / first["ideal_ms"]
        estimate = {"ms": ms, "share_of_product": rate * whole["ideal_ms"] / ms}
    return (
        first
        | whole
        | {
            "memory": first["memory"] | memory,
            "estimate": estimate,
            "fits": memory["total"] <= limit,
            "collective_bytes": {name: grown("collective_bytes", name) for name in sorted(sent)},
            "layers_compiled": [list(number) for number in depths(image, text)],
        }
    )


def _at(report: dict[str, Any], path: Sequence[str]) -> float:
    value: Any = report
    for name in path[:-1]:
        value = value[name]
    return float(value.get(path[-1], 0.0))
