"""The configuration with every field at its default."""

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference, placeholder

from cada_jax.config.fields import FIELDS
from cada_jax.config.fields.field import Same
from cada_jax.config.kinds import IntegerOrWord


def default_config() -> ConfigDict:
    """The full-size configuration with every field present; not locked.

    A field that may be None takes a text later, and one of a number or a word takes either.
    `model.image.size` is a reference: it follows `data.image_size`.
    """
    config = ConfigDict()
    for field in FIELDS:
        group, key = _place(config, field.name)
        default = field.default
        if isinstance(default, Same):
            source, name = _place(config, default.name)
            default = source.get_ref(name)
        if default is None:
            default = placeholder(str)
        elif isinstance(field.kind, IntegerOrWord):
            # A plain value would fix the type: a configuration file could not write the word.
            default = FieldReference(default, field_type=object)
        group[key] = default
    return config


def _place(config: ConfigDict, name: str) -> tuple[ConfigDict, str]:
    """The group that holds the field `name`, made if it is missing, and the field's key there."""
    *groups, key = name.split(".")
    for group in groups:
        if group not in config:
            config[group] = ConfigDict()
        config = config[group]
    return config, key
