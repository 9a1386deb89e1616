"""The configuration of a run: its fields, their checks, its JSON, and comparison of two.

One table, `cada_jax.config.fields`, holds every field once: default, allowed values, meaning, and
when a run may change it. `python -m cada_jax.config` prints it. Nothing here imports JAX.
"""

from cada_jax.config.checks import check_fields, check_network, validate
from cada_jax.config.config_file import load_config
from cada_jax.config.fields import DATASETS, FIELDS
from cada_jax.config.overrides import apply_overrides, default_config, split_overrides
from cada_jax.config.stored import (
    CONFIG_FILE,
    FREE_KEYS,
    FREE_KEYS_OF_EVAL,
    check_same_config,
    differing_keys,
    differing_values,
    from_values,
    read_config,
    to_json,
)

__all__ = [
    "CONFIG_FILE",
    "DATASETS",
    "FIELDS",
    "FREE_KEYS",
    "FREE_KEYS_OF_EVAL",
    "apply_overrides",
    "check_fields",
    "check_network",
    "check_same_config",
    "default_config",
    "differing_keys",
    "differing_values",
    "from_values",
    "load_config",
    "read_config",
    "split_overrides",
    "to_json",
    "validate",
]
