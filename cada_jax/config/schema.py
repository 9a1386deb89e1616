"""The configuration with every field at its default."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from cada_jax.config.fields import FIELDS
from cada_jax.config.fields.field import Same


def default_config() -> ConfigDict:
    """The full-size configuration with every field present; not locked.

    A field that may be None takes a text later. `model.image.size` is a reference: it follows
    `data.image_size`.
    """
    config = ConfigDict()
    for field in FIELDS:
        group, key = _place(config, field.name)
        default = field.default
        if isinstance(default, Same):
            source, name = _place(config, default.name)
            default = source.get_ref(name)
        group[key] = placeholder(str) if default is None else default
    return config


def _place(config: ConfigDict, name: str) -> tuple[ConfigDict, str]:
    """The group that holds the field `name`, made if it is missing, and the field's key there."""
    *groups, key = name.split(".")
    for group in groups:
        if group not in config:
            config[group] = ConfigDict()
        config = config[group]
    return config, key
