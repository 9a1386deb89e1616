"""Prints the fields of the configuration as a Markdown table, or those of one part.

    python -m cada_jax.config            all of them
    python -m cada_jax.config train      those of config.train
    python -m cada_jax.config rate       those whose name has "rate" in it

The columns are name, default, allowed values, whether a trained run may be continued or scored with
another value, and meaning with the unit.
"""

import sys

from cada_jax.common.command_line import DONE, Flags, run_command
from cada_jax.common.errors import UsageError
from cada_jax.config.fields import CONTINUED, FIELDS, NEVER, SCORED, Field, Same
from cada_jax.config.kinds import spelled

MAY_CHANGE = {NEVER: "no", SCORED: "when scored", CONTINUED: "yes"}


def describe_fields(part: str = "") -> str:
    """The fields below a group, or else with `part` in their names, as a Markdown table.

    Raises:
      UsageError: there is none.
    """
    rows = [f for f in FIELDS if not part or f.name.startswith(f"{part}.")]
    rows = rows or [f for f in FIELDS if part in f.name]
    if not rows:
        groups = sorted({f.name.partition(".")[0] for f in FIELDS})
        raise UsageError(f"no field is called {part!r}; the groups are {', '.join(groups)}")
    lines = ["| field | default | allowed | may change | meaning |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *map(_row, rows)])


def _row(field: Field) -> str:
    default = field.default.name if isinstance(field.default, Same) else spelled(field.default)
    cells = (
        f"`{field.name}`",
        f"`{default or chr(34) * 2}`",
        field.kind.allowed,
        MAY_CHANGE[field.change],
        field.meaning,
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main(argv: list[str]) -> int:
    """Prints the table."""
    parser = Flags("cada_jax.config", __doc__)
    parser.add_argument("part", nargs="?", default="", help="a group, or a part of a name")
    print(describe_fields(parser.parse_args(argv).part))
    return DONE


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
