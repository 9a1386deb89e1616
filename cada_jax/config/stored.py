"""The configuration as JSON, in WORKDIR/config.json and in a model's folder, and what may differ.

A run is continued by the same command. Were the configuration another one, the result would be
neither of the two experiments, so that is refused; `FREE_KEYS` may change.
"""

import itertools
import json
import os
import pathlib
from typing import Any

from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.common.files import read_json
from cada_jax.config.checks import flat
from cada_jax.config.fields import BY_NAME, CONTINUED, FIELDS, SCORED
from cada_jax.config.overrides import apply_overrides, default_config

CONFIG_FILE = "config.json"


def to_json(config: ConfigDict) -> str:
    """`config` as indented JSON with its keys in order; tuples become lists."""
    return json.dumps(json.loads(config.to_json()), indent=2, sort_keys=True) + "\n"


def _with_tuples(value: Any) -> Any:
    """`value` with every list as a tuple, as the config files write them: tuples can be hashed."""
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def from_values(values: dict[str, Any], origin: str | os.PathLike) -> ConfigDict:
    """A full, locked configuration of nested values; fields that they lack have their default.

    Raises:
      UsageError: a field does not exist; the message begins with `origin`.
    """
    config = default_config()
    given = {name: _with_tuples(value) for name, value in flat(values).items()}
    if unknown := next((name for name in given if name not in BY_NAME), None):
        raise UsageError(f"{origin}: config.{unknown} is no field of this version")
    apply_overrides(config, given)
    return config.lock()


def read_config(path: str | os.PathLike) -> ConfigDict:
    """The configuration in the JSON file `path`, see `from_values`.

    Raises:
      MissingFileError: there is no such file.
      UsageError: it cannot be read as the configuration of a run.
    """
    what = "the configuration of a run"
    values = read_json(path, what)
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected {what}, got {type(values).__name__}")
    return from_values(values, path)


def _free(*changes: str) -> tuple[str, ...]:
    """The fields of these kinds of `change`; a group of which all are is written as "group."."""
    free = []
    for group, fields in itertools.groupby(FIELDS, key=lambda field: field.name.partition(".")[0]):
        fields = list(fields)
        names = [field.name for field in fields if field.change in changes]
        whole = len(names) == len(fields) and names != [group]
        free += [f"{group}."] if whole else names
    return tuple(sorted(free))


# What a run may change when it is continued. An entry ending in "." is a whole group.
FREE_KEYS = _free(CONTINUED)
# What scoring a trained run may change: everything but the network and its input.
FREE_KEYS_OF_EVAL = _free(CONTINUED, SCORED)


def check_same_config(
    workdir: str | os.PathLike, config: ConfigDict, free: tuple[str, ...] = FREE_KEYS
) -> None:
    """Compares a configuration with the one that is written in a workdir.

    A field that is newer than the workdir has its default there.

    Raises:
      MissingFileError: WORKDIR/config.json is not there.
      UsageError: it differs from `config` in a key that is not free; all of them are listed.
    """
    if config.optimizer.schedule == "epoch":
        # Nothing else depends on where the run ends; the schedule "step" is stretched to it.
        free = (*free, "train.max_steps")
    there = read_config(pathlib.Path(workdir) / CONFIG_FILE)
    if different := differing_keys(config, there, free):
        lines = "\n".join(
            f"  config.{key}: {json.dumps(theirs)} there, {json.dumps(ours)} now"
            for key, (ours, theirs) in different.items()
        )
        raise UsageError(
            f"{workdir} was written by another configuration ({CONFIG_FILE} in it):\n{lines}\n"
            "Continue with the values written there, or give this run a --workdir of its own. "
            f"These may change: {', '.join(f + '*' if f.endswith('.') else f for f in free)}."
        )


def differing_keys(
    config: ConfigDict, other: ConfigDict, free: tuple[str, ...] = ()
) -> dict[str, tuple[Any, Any]]:
    """The leaves that differ: dotted key -> (value in `config`, value in `other`).

    Keys named by `free` are left out; an entry of `free` that ends in "." stands for all keys
    below it.
    """
    return differing_values(config.to_json(), other.to_json(), free)


def differing_values(
    ours: str, theirs: str, free: tuple[str, ...] = ()
) -> dict[str, tuple[Any, Any]]:
    """As `differing_keys`, for two configurations given as JSON."""
    own, other = (flat(json.loads(text)) for text in (ours, theirs))
    different = {}
    for key in sorted({*own, *other}):
        pair = own.get(key, "absent"), other.get(key, "absent")
        is_free = any(key == f or (f.endswith(".") and key.startswith(f)) for f in free)
        if not is_free and pair[0] != pair[1]:
            different[key] = pair
    return different
