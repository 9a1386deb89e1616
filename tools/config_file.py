"""Configurations for tools: a file that a flag names, with fields changed by --set FIELD=VALUE."""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.config import apply_overrides, load_config, split_overrides, validate


def parse_changes(changes: Sequence[str]) -> dict[str, Any]:
    """FIELD=VALUE as field -> value, read as `--config.FIELD=VALUE` of `cada_jax.main` is.

    Raises:
      UsageError: a field does not exist or does not allow the value.
    """
    for change in changes:
        if "=" not in change:
            raise UsageError(f"--set {change}: expected FIELD=VALUE, as train.epochs=3")
    _, overrides = split_overrides([f"--config.{change}" for change in changes])
    return overrides


def read_config(argument: str, changes: Sequence[str] = ()) -> ConfigDict:
    """The configuration that `argument` names with FIELD=VALUE changes, checked.

    Raises:
      MissingFileError: there is no such file.
      UsageError: the file gives none, or a field does not exist or does not allow its value.
    """
    config = load_config(argument)
    apply_overrides(config, parse_changes(changes))
    validate(config)
    return config
