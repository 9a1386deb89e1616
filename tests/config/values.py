"""Configurations with some values changed, and what they are refused with."""

from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.common.errors import UsageError


def with_values(values):
    """The default configuration with fields changed: dotted name -> value."""
    config = config_lib.default_config()
    config.update_from_flattened_dict(values)
    return config


def changed(name, value):
    """The default configuration with one value as it is: assigned, ml_collections converts some."""
    values = config_lib.default_config().to_dict()
    *groups, key = name.split(".")
    group = values
    for part in groups:
        group = group[part]
    group[key] = value
    return ConfigDict(values)


def refusal(config, **options):
    """The message that the configuration is refused with, None if it is not; always one line."""
    try:
        config_lib.validate(config, **options)
    except UsageError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 700, text
        return text
    return None
