"""The table of fields as documentation."""

from cada_jax.config.fields import FIELDS
from cada_jax.config.fields.field import CONTINUED, NEVER, SCORED, Field, Same
from cada_jax.config.kinds import spelled

MAY_CHANGE = {NEVER: "no", SCORED: "when scored", CONTINUED: "yes"}


def describe_fields() -> str:
    """Every field as a row of a Markdown table.

    The columns are name, default, allowed values, whether a trained run may be continued or scored
    with another value, and meaning with the unit.
    """
    lines = ["| field | default | allowed | may change | meaning |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *map(_row, FIELDS)])


def _row(field: Field) -> str:
    default = field.default
    said = default.name if isinstance(default, Same) else spelled(default) or '""'
    cells = (
        f"`{field.name}`",
        f"`{said}`",
        field.kind.allowed,
        MAY_CHANGE[field.change],
        field.meaning,
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
