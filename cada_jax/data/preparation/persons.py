"""The ids that person numbers stand for, where a data set's own ids are no small integers."""

import json
import os
from pathlib import Path

from cada_jax.common.errors import UsageError
from cada_jax.common.files import write_text

PERSONS_FILE = "persons.json"


def write_persons(folder: str | os.PathLike, persons: tuple[int | str, ...]) -> None:
    """Writes the ids by number, see `number_persons`; no file where the numbers are the ids."""
    if persons:
        write_text(Path(folder) / PERSONS_FILE, json.dumps(persons) + "\n")


def read_persons(folder: str | os.PathLike) -> tuple[int | str, ...]:
    """Returns the ids by number, empty where the numbers are the ids.

    Raises:
      UsageError: the file is damaged.
    """
    path = Path(folder) / PERSONS_FILE
    if not path.is_file():
        return ()
    try:
        persons = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:
        raise UsageError(f"{path} is damaged ({err}): prepare the data again") from err
    if not isinstance(persons, list) or not all(isinstance(p, int | str) for p in persons):
        raise UsageError(f"{path} is damaged: expected a list of ids. Prepare the data again")
    return tuple(persons)
