"""The default configuration, and overrides of a command line: `--config.train.epochs=3`."""

import re
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference, placeholder

from cada_jax.common.errors import UsageError, shown
from cada_jax.config.checks import refusal, suggestion
from cada_jax.config.fields import BY_NAME, FIELDS, Same

_OVERRIDE = re.compile(r"--?config\.([^=]*)(?:=(.*))?", re.DOTALL)


def default_config() -> ConfigDict:
    """The full-size configuration with every field at its default; not locked.

    A field that may be None takes a text later, and one of a number or a word takes either.
    `model.image.size` is a reference: it follows `data.image_size`.
    """
    config = ConfigDict()
    for field in FIELDS:
        *groups, key = field.name.split(".")
        group = config
        for name in groups:
            if name not in group:
                group[name] = ConfigDict()
            group = group[name]
        if isinstance(field.default, Same):
            source, name = field.default.name.split(".")
            group[key] = config[source].get_ref(name)
        elif field.default is None:
            group[key] = placeholder(str)
        elif field.kind.words and isinstance(
            field.default, int
        ):  # a plain value would fix the type, and no file could write a word
            group[key] = FieldReference(field.default, field_type=object)
        else:
            group[key] = field.default
    return config


def split_overrides(arguments: Iterable[str]) -> tuple[list[str], dict[str, Any]]:
    """Takes the overrides out of the arguments of a command line.

    An override is `--config.FIELD=VALUE` or `--config.FIELD VALUE`. Of a pair, 384,128 and
    (384,128) are read; None and none are no value. The last override of a field holds.

    Returns:
      (the other arguments, field -> value).

    Raises:
      UsageError: an override names no field, or a value that the field does not allow.
    """
    others: list[str] = []
    given: dict[str, Any] = {}
    rest = iter(arguments)
    for argument in rest:
        match = _OVERRIDE.fullmatch(argument)
        if not match:
            others.append(argument)
            continue
        name, text = match.groups()
        if name not in BY_NAME:
            said = shown(argument)[1:-1]
            raise UsageError(f"{said}: there is no such field; {suggestion(name)}.")
        field, text = BY_NAME[name], next(rest, "") if text is None else text
        try:
            value = field.kind.parse(text)
        except (ValueError, OverflowError):
            raise refusal(field, text) from None
        if not field.kind.accepts(value):
            raise refusal(field, value)
        given[name] = value
    return others, given


def apply_overrides(config: ConfigDict, overrides: dict[str, Any]) -> None:
    """Sets fields of `config` in place; a reference to a field follows it.

    Raises:
      UsageError: the configuration lacks a field.
    """
    for name, value in overrides.items():
        *groups, key = name.split(".")
        group = config
        for part in groups:
            group = group[part] if isinstance(group, ConfigDict) and part in group else None
        if not isinstance(group, ConfigDict) or key not in group:
            raise UsageError(
                f"--config.{name}: the configuration of this file has no such field; start it from "
                "cada_jax.config.default_config(), which has every field."
            )
        with group.unlocked(), group.ignore_type():
            group[key] = value
