"""Comparison of two configurations, and what a run may change.

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
from cada_jax.config.fields import FIELDS
from cada_jax.config.fields.field import CONTINUED, SCORED
from cada_jax.config.json_file import CONFIG_FILE, flat, read_config
from cada_jax.config.legacy import upgraded


def _free(*changes: str) -> tuple[str, ...]:
    """The fields of these kinds of `change`; a group of which all are is written as "group."."""
    free = []
    by_group = itertools.groupby(FIELDS, key=lambda field: field.name.partition(".")[0])
    for group, fields in by_group:
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
    path = pathlib.Path(workdir) / CONFIG_FILE
    if config.optimizer.schedule == "epoch":
        # Nothing else depends on where the run ends; the schedule "step" is stretched to it.
        free = (*free, "train.max_steps")
    different = differing_keys(config, upgraded(read_config(path)), free)
    if different:
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

    A key that one side lacks has the value "absent" there. Keys named by `free` are left out; an
    entry of `free` that ends in "." stands for all keys below it.
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
