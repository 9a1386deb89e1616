"""Configurations that earlier versions wrote, as one of today."""

from typing import Any

from ml_collections import ConfigDict

from cada_jax.config.fields import BY_NAME
from cada_jax.config.json_file import flat_values
from cada_jax.config.overrides import apply_overrides
from cada_jax.config.schema import default_config

# Field -> what its former values are called now.
RENAMED: dict[str, dict[Any, Any]] = {"model.remat": {False: "off", True: "full"}}


def upgraded(config: ConfigDict) -> ConfigDict:
    """A full, locked configuration with the values of one that an earlier version wrote.

    Former spellings of a value become those of today. Fields that are new since take their
    default, and fields that are gone are left out. The result need not be valid: see `validate`.
    """
    new = default_config()
    values = {}
    for name, value in flat_values(config).items():
        former = RENAMED.get(name, {})
        if name in BY_NAME:
            values[name] = former[value] if isinstance(value, bool) and value in former else value
    apply_overrides(new, values)
    return new.lock()
