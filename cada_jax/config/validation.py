"""Whether a configuration can be run: every field by the table, then the fields together."""

import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import RequiredValueError

from cada_jax.common.errors import UsageError
from cada_jax.config import combinations
from cada_jax.config.fields import BY_NAME, FIELDS
from cada_jax.config.fields.field import Field, Same
from cada_jax.config.kinds import Choice, Text, shown, spelled

LIST_COMMAND = "`python -m cada_jax.config` lists all fields"


def validate(config: ConfigDict, *, training: bool = True) -> None:
    """Checks everything that can be known without data and devices.

    Args:
      config: full config.
      training: whether it is to be trained. Combinations that only training needs are left out
        when a trained run is scored: `eval.rerank_top_k=0` scores by similarity alone.

    Raises:
      UsageError: the first thing that is wrong, on one line: the field, what is allowed, what was
        given, and the right spelling or the next step.
    """
    values = _checked_values(config)
    for field in FIELDS:
        _check(field, values[field.name])
    combinations.check_network(values)
    combinations.check_tokens(values)
    combinations.check_data(values)
    combinations.check_scoring(values)
    if training:
        combinations.check_training(values)


def check_fields(config: ConfigDict, *names: str) -> None:
    """Checks single fields of a configuration, for functions that read only these.

    Raises:
      UsageError: a value is not allowed; one line, as `validate`.
    """
    for name in names:
        _check(BY_NAME[name], _read(config, name))


def check_network(config: ConfigDict) -> None:
    """Checks the fields that the network is built from, one by one and together.

    Raises:
      UsageError: the first thing that is wrong, on one line, as `validate`.
    """
    names = [f.name for f in FIELDS if f.name.startswith("model.")]
    names += ["data.max_length", "atp.gate", "atp.groups", "atp.group_pool", "ara.causal"]
    check_fields(config, *names)
    combinations.check_network({name: _read(config, name) for name in names})


def refusal(field: Field, given: Any) -> UsageError:
    """One line on a value that a field does not allow."""
    text, hint = f"config.{field.name} is {shown(given)}", ""
    if isinstance(field.kind, Text) and isinstance(given, str):
        text += f" ({field.kind.problem(given)})"
    if isinstance(field.kind, Choice) and isinstance(given, str):
        near = difflib.get_close_matches(given, field.kind.words, n=1)
        hint = f" Did you mean --config.{field.name}={near[0]}?" if near else ""
    if not hint and not isinstance(field.default, Same) and field.default != "":
        hint = f" Write for example --config.{field.name}={spelled(field.default)}."
    return UsageError(f"{text}; allowed: {field.kind.allowed}.{hint}")


def unknown(name: str) -> UsageError:
    """One line on a field that the table does not have."""
    return UsageError(f"config.{shown(name)[1:-1]}: there is no such field; {suggestion(name)}.")


def suggestion(name: str) -> str:
    """The field that was probably meant, or where all of them are listed."""
    near = difflib.get_close_matches(name, BY_NAME, n=1, cutoff=0.75)
    same_key = [known for known in BY_NAME if known.rpartition(".")[2] == name.rpartition(".")[2]]
    meant = same_key if len(same_key) == 1 else near
    return f"did you mean config.{meant[0]}? {LIST_COMMAND}" if meant else LIST_COMMAND


def _check(field: Field, value: Any) -> None:
    if not field.kind.accepts(value):
        raise refusal(field, value)


def _read(config: ConfigDict, name: str) -> Any:
    value = config
    for key in name.split("."):
        if not isinstance(value, ConfigDict | FrozenConfigDict) or key not in value:
            raise UsageError(
                f"config.{name} is missing; start from cada_jax.config.default_config(), which "
                "has every field."
            )
        value = _value(value, key, name)
    return value


def _value(group: Mapping, key: str, name: str) -> Any:
    try:
        return group[key]
    except RequiredValueError as e:
        raise UsageError(f"config.{name} is a required placeholder without a value; set it.") from e


def _checked_values(config: ConfigDict) -> dict[str, Any]:
    """Every field's value by its dotted name; raises UsageError unless they are the table's."""
    if not isinstance(config, ConfigDict | FrozenConfigDict):
        raise UsageError(
            f"the configuration is {shown(config)}; expected an ml_collections.ConfigDict. "
            "get_config() returns what cada_jax.config.default_config() gives, changed."
        )
    for name in _leaves(config, ""):
        if name not in BY_NAME:
            raise unknown(name)
    return {field.name: _read(config, field.name) for field in FIELDS}


def _leaves(group: Mapping, prefix: str) -> list[str]:
    """The dotted names of all values; what lies below a field of the table is its value."""
    names = []
    for key in group:
        name = f"{prefix}{key}"
        value = _value(group, key, name)
        below = isinstance(value, ConfigDict | FrozenConfigDict) and name not in BY_NAME
        names += _leaves(value, f"{name}.") if below else [name]
    return names
