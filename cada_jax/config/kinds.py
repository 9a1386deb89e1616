"""Kinds of values: which ones a field allows, how they are said and how they are read from text."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_NO_VALUE = ("none", "null")
VARIANT = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}"  # settings that a data set was prepared with


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a field may hold.

    Attributes:
      allowed: a phrase for messages and for the table of fields.
      accepts: whether a value is allowed; never raises.
      parse: the value that a command line spells, allowed or not; ValueError for another type.
      words: that it takes.
    """

    allowed: str
    accepts: Callable[[Any], bool]
    parse: Callable[[str], Any]
    words: tuple[str, ...] = ()


def _whole(text: str) -> int:
    """Reads 64, 1_000, and as well 64.0 or 1e3, which are whole."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


def integer(low: int, high: int, **words: Any) -> Kind:
    """A whole number from `low` to `high`, or the value of a keyword, which is its meaning."""
    others = "".join(f", or {value!r} ({word.replace('_', ' ')})" for word, value in words.items())

    def accepts(value: Any) -> bool:
        if value in words.values() and type(value) is not bool:
            return True
        return type(value) is int and low <= value <= high

    def parse(text: str) -> Any:
        return text if text in words.values() else _whole(text)

    spelled_out = tuple(value for value in words.values() if isinstance(value, str))
    return Kind(f"a whole number from {low} to {high}{others}", accepts, parse, spelled_out)


def number(low: float, high: float, above: bool = False, below: bool = False) -> Kind:
    """A finite number from `low` to `high`; an end that is `above` or `below` does not belong."""
    start = f"above {low:g}" if above else f"from {low:g}"
    allowed = f"a number {start} {'and below' if below else 'to'} {high:g}"

    def accepts(value: Any) -> bool:
        if type(value) not in (int, float) or not low <= value <= high:  # NaN is not between
            return False
        return not (above and value == low or below and value == high)

    return Kind(allowed, accepts, float)


def flag() -> Kind:
    """True or False."""

    def parse(text: str) -> bool:
        if text.lower() not in _FLAGS:
            raise ValueError(text)
        return _FLAGS[text.lower()]

    return Kind("True or False", lambda value: type(value) is bool, parse)


def choice(*words: str, said: str = "") -> Kind:
    """One of a few words; `said` replaces a list that would be long."""
    listed = said or " or ".join(map(repr, words))
    return Kind(listed, lambda value: isinstance(value, str) and value in words, str, words)


def pair(first: str, second: str, of: Kind, ordered: bool = False) -> Kind:
    """Two values of one kind; `ordered`: the first is not larger than the second."""

    def accepts(value: Any) -> bool:
        if not isinstance(value, tuple) or len(value) != 2 or not all(map(of.accepts, value)):
            return False
        return not ordered or value[0] <= value[1]

    def parse(text: str) -> tuple:
        """Reads (384, 128), [384, 128], 384,128 and 384x128."""
        parts = re.split(r"[,x]", text.strip().strip("()[]").rstrip(", "))
        return tuple(of.parse(part.strip()) for part in parts)

    order = f", {first} not above {second}" if ordered else ""
    return Kind(f"a pair ({first}, {second}), each {of.allowed}{order}", accepts, parse)


def text(what: str, pattern: str = r".*\S.*") -> Kind:
    """None, or a text that is no spelling of None and matches a regular expression."""
    shape = re.compile(pattern)

    def accepts(value: Any) -> bool:
        if not isinstance(value, str):
            return value is None
        return value.lower() not in _NO_VALUE and bool(shape.fullmatch(value))

    def parse(value: str) -> str | None:
        return None if value.lower() in _NO_VALUE else value

    return Kind(f"None or {what}", accepts, parse)


def name_list(*names: str) -> Kind:
    """NAME or NAME/VARIANT, several separated by commas, none twice; an empty text is no name."""

    def accepts(value: Any) -> bool:
        labels = [label.strip() for label in value.split(",")] if value else []
        parts = [label.partition("/") for label in labels]
        spelt = all(
            name in names and (not slash or re.fullmatch(VARIANT, variant))
            for name, slash, variant in parts
        )
        return spelt and len({*labels}) == len(labels)

    known = f"empty, or different NAME or NAME/VARIANT of {', '.join(names)}, separated by commas"
    return Kind(known, lambda value: isinstance(value, str) and accepts(value), str)


def spelled(value: Any) -> str:
    """`value` as a command line spells it; the inverse of `parse`."""
    if isinstance(value, tuple):
        return ",".join(map(spelled, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
