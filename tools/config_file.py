"""Configurations for tools that are told one by flags: a file, a variant of it, changed fields."""

import ast
import difflib
import importlib.util
import inspect
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.common.errors import MissingFileError, UsageError

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def load_config(argument: str = "default") -> ConfigDict:
    """The ConfigDict that `argument` names.

    Args:
      argument: "rstp", "rstp:released" or "configs/rstp.py:released".

    Raises:
      MissingFileError: there is no such file.
      UsageError: the file, or its variant, gives no configuration.
    """
    name, _, variant = argument.partition(":")
    get_config = _load_function(argument, name)
    try:
        takes = len(inspect.signature(get_config).parameters)
        if variant and not takes:
            raise UsageError(f"--config={argument}: {name} has no variants, leave :{variant} out")
        config = get_config(variant) if variant else get_config()
    except UsageError:
        raise
    except Exception as e:
        raise UsageError(f"--config={argument}: get_config failed: {_first_line(e)}") from e
    if not isinstance(config, ConfigDict):
        raise UsageError(
            f"--config={argument}: get_config returned {type(config).__name__}, expected ConfigDict"
        )
    return config


def _load_function(argument: str, name: str) -> Any:
    """The `get_config` of a file."""
    path = pathlib.Path(os.path.expanduser(name))
    if not name.endswith(".py"):
        path = REPOSITORY / "configs" / f"{name}.py"
    if not name or "/" in name and not name.endswith(".py"):
        raise UsageError(f"--config={argument}: expected a name in configs/, or a path to a .py")
    if not os.path.isfile(path):  # and False of a name that is too long
        known = sorted(p.stem for p in (REPOSITORY / "configs").glob("*.py"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}"
        raise MissingFileError(f"--config={argument}: no file {path}. {hint}")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert spec is not None and spec.loader is not None, path  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise UsageError(f"--config={argument}: {path} cannot be run: {_first_line(e)}") from e
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise UsageError(f"--config={argument}: {path} has no function get_config")
    return get_config


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def parse_changes(config: ConfigDict, changes: Sequence[str]) -> dict[str, Any]:
    """FIELD=VALUE as dotted field -> value of the field's type.

    Raises:
      UsageError: a field does not exist or cannot hold the value.
    """
    parsed = {}
    for change in changes:
        field, equals, text = change.partition("=")
        if not equals:
            raise UsageError(f"--set {change}: expected FIELD=VALUE, as train.epochs=3")
        parsed[field] = _value(change, _field(config, change, field), text)
    return parsed


def _field(config: ConfigDict, change: str, field: str) -> Any:
    """What a dotted field holds now."""
    value: Any = config
    for name in field.split("."):
        if not isinstance(value, ConfigDict) or name not in value:
            near = difflib.get_close_matches(field, _leaves(config), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "configs/default.py lists the fields"
            raise UsageError(f"--set {change}: no such field; {hint}")
        value = value[name]
    if isinstance(value, ConfigDict):
        raise UsageError(f"--set {change}: {field} is a section; its fields: {', '.join(value)}")
    return value


def _leaves(config: ConfigDict, prefix: str = "") -> list[str]:
    found = []
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            found += _leaves(value, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def _value(change: str, old: Any, text: str) -> Any:
    """`text` as a value of the type that `old` has."""
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(old, tuple):
            value = ast.literal_eval(text)
            if not isinstance(value, tuple) or len(value) != len(old):
                raise ValueError(text)
            return tuple(_number(type(o), repr(v)) for o, v in zip(old, value, strict=True))
        if isinstance(old, int | float):
            return _number(type(old), text)
    except (KeyError, ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as e:
        kind = "true or false" if isinstance(old, bool) else type(old).__name__
        raise UsageError(
            f"--set {change}: not a value of its type, expected {kind} as {old!r}"
        ) from e
    return None if old is None and text == "None" else text


def _number(kind: type, text: str) -> Any:
    value = kind(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def read_config(argument: str, changes: Sequence[str] = ()) -> ConfigDict:
    """The configuration that `argument` names with FIELD=VALUE changes, checked.

    Raises:
      MissingFileError: there is no such file.
      UsageError: the file gives none, or a field does not exist or cannot hold its value.
    """
    config = load_config(argument)
    config.update_from_flattened_dict(parse_changes(config, changes))
    check_config(config)
    return config


def check_config(config: ConfigDict) -> None:
    """Raises UsageError for values that no run can use."""
    validate = getattr(config_lib, "validate", None)
    if validate is not None:
        validate(config)
