"""How the people of a world describe each other: tables of words, and what others never say."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from cada_jax.data.datasets.synthetic import lexicon


class Speech(NamedTuple):
    """What captions are made of; the tables are explained in `lexicon`.

    Attributes:
      colors, hair_colors, subjects, pronouns, hair_styles, patterns, kinds: words of a value.
      wears, has, carries, openings, moves, places: what stands between them.
      notes: share of captions in [0, 1] that are lists of words and not sentences.
      negations: share of captions that say what is not there.
      relations: share of captions that compare two colours.
      omit_kind, omit_color: share of visible things and of their colours that is left out.
    """

    colors: Mapping[str, tuple[str, ...]] = lexicon.COLOR_WORDS
    hair_colors: Mapping[str, tuple[str, ...]] = lexicon.HAIR_COLOR_WORDS
    subjects: Mapping[str | None, tuple[str, ...]] = lexicon.SUBJECTS
    pronouns: Mapping[str | None, str] = lexicon.PRONOUNS
    hair_styles: Mapping[str, tuple[str, ...]] = lexicon.HAIR_STYLE_WORDS
    patterns: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = lexicon.PATTERN_WORDS
    kinds: Mapping[str, Mapping[Any, tuple[str, ...]]] = lexicon.KIND_WORDS
    wears: tuple[str, ...] = lexicon.WEARS
    has: tuple[str, ...] = lexicon.HAS
    carries: tuple[str, ...] = lexicon.CARRIES
    openings: tuple[str, ...] = lexicon.OPENINGS
    moves: Mapping[bool, tuple[str, ...]] = lexicon.MOVES
    places: tuple[str, ...] = lexicon.PLACES
    notes: float = 0.0
    negations: float = 0.0
    relations: float = 0.0
    omit_kind: float = 0.17
    omit_color: float = 0.2


HOME_SPEECH = Speech()


def without_words(speech: Speech, unknown: frozenset[str]) -> Speech:
    """The speech of people who never say some words.

    Args:
      speech: to choose from.
      unknown: lower-case words; every phrase with one of them is left out.

    Raises:
      ValueError: of some value nothing would be left to say.
    """

    def known(phrase: str) -> bool:
        return not unknown & set(re.findall(r"\w+", phrase))

    def left(table: Any) -> Any:
        if isinstance(table, Mapping):
            return {value: left(words) for value, words in table.items()}
        if not isinstance(table, tuple) or not all(isinstance(phrase, str) for phrase in table):
            return tuple(map(left, table)) if isinstance(table, tuple) else table
        kept = tuple(phrase for phrase in table if known(phrase))
        if table and not kept:
            raise ValueError(f"nothing is left to say of {table} without {sorted(unknown)}")
        return kept

    return Speech(*(left(table) for table in speech))
