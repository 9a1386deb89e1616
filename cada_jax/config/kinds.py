"""Kinds of values: which ones a field allows, how they are said and how they are read from text.

Every kind has three parts:

    allowed         a phrase for messages and for the table of fields
    accepts(value)  whether a value is allowed; never raises
    parse(text)     the value that a command line spells; raises ValueError for another type
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any, Protocol

_TRUE, _FALSE = ("true", "t", "1", "yes", "on"), ("false", "f", "0", "no", "off")
_NO_VALUE = ("none", "null")


class Kind(Protocol):
    """What every kind offers."""

    @property
    def allowed(self) -> str:
        """A phrase that says which values are allowed."""

    def accepts(self, value: Any) -> bool:
        """Whether the value is allowed."""

    def parse(self, text: str) -> Any:
        """The value that `text` spells; it need not be allowed.

        Raises:
          ValueError: the text is no value of this type.
        """


@dataclasses.dataclass(frozen=True)
class Integer:
    """A whole number from `low` to `high`, or one of `also`, each with its meaning."""

    low: int
    high: int
    also: tuple[tuple[int, str], ...] = ()

    @property
    def allowed(self) -> str:
        """As "a whole number from 1 to 9, or 0 (off)"."""
        others = "".join(f", or {value} ({meaning})" for value, meaning in self.also)
        return f"a whole number from {self.low} to {self.high}{others}"

    def accepts(self, value: Any) -> bool:
        """True for an int, but not a bool, in the range."""
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high or value in [other for other, _ in self.also]

    def parse(self, text: str) -> int:
        """Reads 64, 1_000, and as well 64.0 or 1e3, which are whole."""
        try:
            return int(text)
        except ValueError:
            number = float(text)
            if not number.is_integer():
                raise
            return int(number)


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite number from `low` to `high`; an end that is `above` or `below` does not belong."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    @property
    def allowed(self) -> str:
        """As "a number from 0 to 1" or "a number above 0 and up to 1"."""
        if not self.above and not self.below:
            return f"a number from {self.low:g} to {self.high:g}"
        low = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        return f"a number {low} and {'below' if self.below else 'up to'} {self.high:g}"

    def accepts(self, value: Any) -> bool:
        """True for an int or float, but not a bool, in the range."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        if not self.low <= value <= self.high:  # true of NaN, whose comparisons are all false
            return False
        return not (self.above and value == self.low or self.below and value == self.high)

    def parse(self, text: str) -> float:
        """Reads what float() reads."""
        return float(text)


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or False."""

    allowed: str = "True or False"

    def accepts(self, value: Any) -> bool:
        """True for a bool alone."""
        return type(value) is bool

    def parse(self, text: str) -> bool:
        """Reads true, false, 1, 0, yes, no, on, off."""
        if text.lower() not in _TRUE + _FALSE:
            raise ValueError(text)
        return text.lower() in _TRUE


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of a few words; `said` replaces a list that would be long."""

    words: tuple[str, ...]
    said: str = ""

    @property
    def allowed(self) -> str:
        """As "'off', 'light' or 'full'"."""
        *most, last = (repr(word) for word in self.words)
        return self.said or (f"{', '.join(most)} or {last}" if most else last)

    def accepts(self, value: Any) -> bool:
        """True for one of the words, spelt the same."""
        return isinstance(value, str) and value in self.words

    def parse(self, text: str) -> str:
        """Takes the text as it is."""
        return text


@dataclasses.dataclass(frozen=True)
class IntegerOrWord:
    """A whole number that `number` allows, or one of `words`, each with its meaning."""

    number: Integer
    words: tuple[tuple[str, str], ...]

    @property
    def allowed(self) -> str:
        """As "a whole number from 1 to 9, or 'all' (every one)"."""
        others = "".join(f", or {word!r} ({meaning})" for word, meaning in self.words)
        return self.number.allowed + others

    def accepts(self, value: Any) -> bool:
        """True for a word, spelt the same, and for a number in the range."""
        if isinstance(value, str):
            return value in [word for word, _ in self.words]
        return self.number.accepts(value)

    def parse(self, text: str) -> int | str:
        """Takes a word as it is; reads anything else as a number."""
        return text if self.accepts(text) else self.number.parse(text)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two values of one kind; `ordered`: the first is not larger than the second."""

    names: tuple[str, str]
    of: Integer | Number
    ordered: bool = False

    @property
    def allowed(self) -> str:
        """As "a pair (height, width), each a whole number from 1 to 9"."""
        order = f", {self.names[0]} not above {self.names[1]}" if self.ordered else ""
        return f"a pair ({', '.join(self.names)}), each {self.of.allowed}{order}"

    def accepts(self, value: Any) -> bool:
        """True for a tuple of two."""
        if not isinstance(value, tuple) or len(value) != 2 or not all(map(self.of.accepts, value)):
            return False
        return not self.ordered or value[0] <= value[1]

    def parse(self, text: str) -> tuple:
        """Reads (384, 128), [384, 128], 384,128 and 384x128."""
        parts = re.split(r"[,x]", text.strip().strip("()[]").rstrip(", "))
        return tuple(self.of.parse(part.strip()) for part in parts)


@dataclasses.dataclass(frozen=True)
class Text:
    """A text that `problem` has nothing against, or None.

    Attributes:
      what: names it, as "a path".
      problem: text -> what is wrong with it, None if nothing is.
    """

    what: str
    problem: Callable[[str], str | None]

    @property
    def allowed(self) -> str:
        """As "None or a path"."""
        return f"None or {self.what}"

    def accepts(self, value: Any) -> bool:
        """True for None and for a text without a problem."""
        return value is None or (isinstance(value, str) and self.problem(value) is None)

    def parse(self, text: str) -> str | None:
        """Takes the text as it is; none and null are None."""
        return None if text.lower() in _NO_VALUE else text


@dataclasses.dataclass(frozen=True)
class NameList:
    """NAME or NAME/VARIANT, several separated by commas, none twice; an empty text is no name."""

    names: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """As "empty, or NAME or NAME/VARIANT of cuhk, icfg, separated by commas"."""
        known = ", ".join(self.names)
        return f"empty, or different NAME or NAME/VARIANT of {known}, separated by commas"

    def accepts(self, value: Any) -> bool:
        """True for an empty text and for known names."""
        if not isinstance(value, str):
            return False
        labels = [label.strip() for label in value.split(",")] if value else []
        parts = [label.partition("/") for label in labels]
        known = all(name in self.names for name, _, _ in parts)
        spelt = all(not slash or variant_problem(variant) is None for _, slash, variant in parts)
        return known and spelt and len({*labels}) == len(labels)

    def parse(self, text: str) -> str:
        """Takes the text as it is."""
        return text


def path_problem(text: str) -> str | None:
    """What keeps `text` from being the path of a file or folder; None if nothing does.

    The file system is not asked whether it is there.
    """
    if not text.strip():
        return "it is empty"
    if text.lower() in _NO_VALUE:
        return "it is the word None as a text: leave the field out, or write None without quotes"
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        return "it has a control character in it"
    sizes = [len(part.encode("utf-8", "surrogatepass")) for part in text.split("/")]
    if max(sizes) > 255:
        return "a name in it is longer than 255 bytes"
    if sum(sizes) > 4000:
        return "it is longer than 4000 bytes"
    if _has_lone_surrogate(text):
        return "it has half a character in it, a lone surrogate"
    try:
        pathlib.Path(text).expanduser()
    except RuntimeError:
        return f"there is no user {text.split('/')[0]}"
    return None


def _has_lone_surrogate(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return True
    return False


def variant_problem(text: str) -> str | None:
    """What keeps `text` from naming the settings of a prepared data set; None if nothing does."""
    if text.lower() in _NO_VALUE:
        return "it is the word None as a text"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}", text):
        return "it is not a name of letters, digits, '-', '_', '.', '+'"
    return None


def shown(value: Any) -> str:
    """`value` on one line of at most 80 characters, for messages."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    try:
        text = repr(value)
    except Exception:  # an int of thousands of digits cannot be written
        text = f"a value of type {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def spelled(value: Any) -> str:
    """`value` as a command line spells it; the inverse of `parse`."""
    if isinstance(value, tuple):
        return ",".join(map(spelled, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
