"""The measurements as tables, models side by side, as Markdown."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

NOTHING = "–"


class Table(NamedTuple):
    """One part of the measurements: of each figure its name, and a text for each model."""

    title: str
    models: list[str]
    rows: list[tuple[str, list[str]]]

    def markdown(self) -> str:
        """As a Markdown section."""
        head = ["", *(f"`{model}`" for model in self.models)]
        lines = [head, ["---"] * len(head), *([name, *texts] for name, texts in self.rows)]
        return "\n".join([f"## {self.title}", "", *(f"| {' | '.join(x)} |" for x in lines)])


def make_tables(found: Sequence[dict[str, Any]]) -> list[Table]:
    """The tables of what `tools.probe` measured, an entry for each model; a dash for nothing."""
    tables = []
    for part in dict.fromkeys(name for one in found for name in one):
        if not any(isinstance(one.get(part), dict) for one in found):
            continue
        columns = [dict(_figures(one.get(part))) for one in found]
        names = dict.fromkeys(name for column in columns for name in column)
        rows = [(name, [column.get(name, NOTHING) for column in columns]) for name in names]
        tables.append(Table(part.replace("_", " "), [one["model"] for one in found], rows))
    return tables


def _figures(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The figures in nested dicts and lists, by their path."""
    if isinstance(value, dict | list):
        if value and isinstance(value, list) and isinstance(value[0], dict) and "word" in value[0]:
            yield name, ", ".join(f"{each['word']!r} {each['mean']:.2f}" for each in value)
            return
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _figures(inner, f"{name}, {step}" if name else str(step))
    elif value is not None:
        yield name, f"{value:.4g}" if isinstance(value, float) else str(value)
