"""The configuration of a run: its fields, their checks, its JSON, and comparison of two.

One table, `cada_jax.config.fields`, holds every field once: default, allowed values, meaning, and
when a run may change it. `python -m cada_jax.config` prints it. Nothing here imports JAX.
"""

from cada_jax.config.comparison import (
    FREE_KEYS,
    FREE_KEYS_OF_EVAL,
    check_same_config,
    differing_keys,
    differing_values,
)
from cada_jax.config.config_file import load_config
from cada_jax.config.fields import FIELDS
from cada_jax.config.json_file import CONFIG_FILE, read_config, to_json, with_tuples
from cada_jax.config.kinds import path_problem
from cada_jax.config.legacy import upgraded
from cada_jax.config.overrides import apply_overrides, split_overrides
from cada_jax.config.reference import describe_fields
from cada_jax.config.schema import default_config
from cada_jax.config.validation import check_fields, check_network, validate

__all__ = [
    "CONFIG_FILE",
    "FIELDS",
    "FREE_KEYS",
    "FREE_KEYS_OF_EVAL",
    "apply_overrides",
    "check_fields",
    "check_network",
    "check_same_config",
    "default_config",
    "describe_fields",
    "differing_keys",
    "differing_values",
    "load_config",
    "path_problem",
    "read_config",
    "split_overrides",
    "to_json",
    "upgraded",
    "validate",
    "with_tuples",
]
