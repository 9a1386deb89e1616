"""Every field at its default: full-size CADA, with the recipe that the authors' code runs.

Other config files start from `get_config()` here and state only what they change. The fields, their
allowed values and meanings are in cada_jax/config/fields; `python -m cada_jax.config` prints them.
"""

from ml_collections import ConfigDict

from cada_jax.config import default_config


def get_config() -> ConfigDict:
    """Returns the full-size configuration with every field present."""
    return default_config()
