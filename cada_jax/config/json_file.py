"""The configuration as JSON: WORKDIR/config.json, and config.json of an exported model."""

import json
import os
import pathlib
from typing import Any

from ml_collections import ConfigDict

from cada_jax.common.errors import MissingFileError, UsageError

CONFIG_FILE = "config.json"


def to_json(config: ConfigDict) -> str:
    """`config` as indented JSON with its keys in order; tuples become lists."""
    return json.dumps(json.loads(config.to_json()), indent=2, sort_keys=True) + "\n"


def with_tuples(value: Any) -> Any:
    """`value` with every list as a tuple, as the config files write them: tuples can be hashed."""
    if isinstance(value, dict):
        return {k: with_tuples(v) for k, v in value.items()}
    return tuple(with_tuples(v) for v in value) if isinstance(value, list) else value


def read_config(path: str | os.PathLike) -> ConfigDict:
    """The configuration in the JSON file `path`, locked, with sequences as tuples.

    Raises:
      MissingFileError: there is no such file.
      UsageError: it cannot be read as a JSON object.
    """
    try:
        values = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise MissingFileError(f"{path}: there is no such file.") from e
    except (OSError, ValueError) as e:
        raise UsageError(
            f"{path}: expected the configuration of a run in JSON, but reading it failed: {e}. "
            "Restore the file, or start again in an empty folder."
        ) from e
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected a JSON object, got {type(values).__name__}.")
    return ConfigDict(with_tuples(values)).lock()


def flat_values(config: ConfigDict) -> dict[str, Any]:
    """The leaves of a configuration: dotted key -> value."""
    return flat(config.to_dict())


def flat(values: dict, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dictionaries: dotted key -> value."""
    leaves = {}
    for key, value in values.items():
        if isinstance(value, dict):
            leaves.update(flat(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves
