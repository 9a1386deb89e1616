"""Overrides on the command line: `--config.train.epochs=3`, read by the table of fields."""

import re
from typing import Any

from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.config.fields import BY_NAME
from cada_jax.config.fields.field import Field
from cada_jax.config.kinds import Flag, Pair
from cada_jax.config.validation import refusal, suggestion

_OVERRIDE = re.compile(r"--?(no)?config\.([^=]*)(?:=(.*))?", re.DOTALL)
_GROUPS = {name.rsplit(".", i)[0] for name in BY_NAME for i in range(1, name.count(".") + 1)}


def split_overrides(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Takes the overrides out of the arguments of a command line.

    An override is `--config.FIELD=VALUE` or `--config.FIELD VALUE`; of a field that is True or
    False also `--config.FIELD` and `--noconfig.FIELD`. Of a pair, 384,128 and (384,128) are read,
    and two overrides after each other are its two values. None and none are no value. The last
    override of a field holds.

    Args:
      arguments: of the command line, the program's name among them or not.

    Returns:
      (the other arguments, field -> value).

    Raises:
      UsageError: an override names no field, or a value that the field does not allow.
    """
    others: list[str] = []
    given: dict[str, list[str]] = {}
    rest = iter(arguments)
    for argument in rest:
        match = _OVERRIDE.fullmatch(argument)
        if not match:
            others.append(argument)
            continue
        negated, name, text = match.groups()
        field = _field(name, argument)
        if negated or (text is None and isinstance(field.kind, Flag)):
            text = _flag_text(field, bool(negated), text, argument)
        elif text is None:
            text = next(rest, None)
        if text is None:
            raise UsageError(f"{argument}: the value is missing; allowed: {field.kind.allowed}.")
        given.setdefault(name, []).append(text)
    return others, {name: _read(BY_NAME[name], texts) for name, texts in given.items()}


def apply_overrides(config: ConfigDict, overrides: dict[str, Any]) -> None:
    """Sets fields of `config` in place; a reference to a field follows it.

    Raises:
      UsageError: the configuration lacks a field.
    """
    for name, value in overrides.items():
        group, *keys = config, *name.split(".")
        for key in keys[:-1]:
            group = group[key] if isinstance(group, ConfigDict) and key in group else None
        if not isinstance(group, ConfigDict) or keys[-1] not in group:
            raise UsageError(
                f"--config.{name}: the configuration of this file has no such field; start it from "
                "cada_jax.config.default_config(), which has every field."
            )
        with group.unlocked(), group.ignore_type():
            group[keys[-1]] = value


def _flag_text(field: Field, negated: bool, text: str | None, argument: str) -> str:
    """What `--config.FIELD` or `--noconfig.FIELD` stands for."""
    if negated and (text is not None or not isinstance(field.kind, Flag)):
        raise UsageError(
            f"{_cut(argument)}: only a field that is True or False is switched off by --noconfig; "
            f"write --config.{field.name}=VALUE. Allowed: {field.kind.allowed}."
        )
    return "false" if negated else "true"


def _field(name: str, argument: str) -> Field:
    if name in BY_NAME:
        return BY_NAME[name]
    if name in _GROUPS:
        inside = [known for known in BY_NAME if known.startswith(f"{name}.")]
        raise UsageError(
            f"{_cut(argument)}: config.{name} is a group of fields; set one of them, as "
            f"--config.{inside[0]}=VALUE."
        )
    known = ""
    for key in name.split("."):
        inside = f"{known}.{key}" if known else key
        if inside not in _GROUPS and inside not in BY_NAME:
            break
        known = inside
    raise UsageError(
        f"{_cut(argument)}: the configuration has no field {key[:50]!r} there; {suggestion(name)}."
    )


def _read(field: Field, texts: list[str]) -> Any:
    joined = isinstance(field.kind, Pair) and len(texts) > 1
    text = ",".join(texts[-2:]) if joined and not re.search("[,x]", texts[-1]) else texts[-1]
    try:
        value = field.kind.parse(text)
    except (ValueError, OverflowError):
        raise refusal(field, text) from None
    if not field.kind.accepts(value):
        raise refusal(field, text if isinstance(value, tuple) else value)
    return value


def _cut(argument: str) -> str:
    text = " ".join(argument.split())
    return text if len(text) <= 100 else f"{text[:100]}..."
