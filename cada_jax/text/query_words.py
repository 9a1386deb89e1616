"""Which words of a query a model can know, by its vocabulary, and where the text is cut off."""

import collections
import functools
import unicodedata
from typing import NamedTuple

from cada_jax.text.tokenizer import Tokenizer, clean_caption, split_words
from cada_jax.text.vocabulary import UNKNOWN_TOKEN

# Nothing is found by these alone.
CONNECTING = frozenset(
    "a an the and or with in on of at to by from who is are has his her their he she they".split()
)
# Pieces shorter than this on average are letters, not parts of words: "xyl" as "x", "##y", "##l".
LETTERS_A_PIECE = 2
# A script that has fewer entries, and a smaller share of them, was not what the model read. BERT's
# English vocabulary has 86 entries in Arabic script and 672 in those of Chinese and Japanese.
SCRIPT_ENTRIES, SCRIPT_SHARE = 1000, 0.1
ONE_SCRIPT = dict.fromkeys(("HIRAGANA", "KATAKANA"), "CJK")


class Understood(NamedTuple):
    """What a model can make of a text.

    Attributes:
      known: its words that the vocabulary has, whole or in parts, in reading order.
      unknown: its other words.
      cut_at: the first word that the model has no room for, None where all are read.
    """

    known: tuple[str, ...]
    unknown: tuple[str, ...]
    cut_at: str | None

    @property
    def says_something(self) -> bool:
        """Whether there is anything to search by: no word is unknown, or another is known."""
        return not self.unknown or any(word not in CONNECTING for word in self.known)

    def notes(self) -> tuple[str, ...]:
        """What a user should know about it, a sentence each."""
        notes = []
        if self.unknown:
            notes.append(f"not in the model's vocabulary: {', '.join(self.unknown)}")
        if self.cut_at is not None:
            notes.append(f"too long: cut off before {self.cut_at!r}")
        return tuple(notes)


def understand(text: str, tokenizer: Tokenizer, max_length: int) -> Understood:
    """Sorts the words of a text.

    Args:
      max_length: tokens that the model reads, [CLS] and [SEP] included.
    """
    # One word more than cleaning keeps, so that one that it cuts off is seen.
    cleaned = clean_caption(text)
    everything = split_words(clean_caption(text, max_words=len(text) + 1))
    pieces, _, index = tokenizer.split(cleaned)
    words = split_words(cleaned)
    read = int(index[max_length - 2]) if len(index) > max_length - 2 else len(words)
    parts: dict[int, list[str]] = collections.defaultdict(list)
    for piece, word in zip(pieces, index.tolist(), strict=True):
        parts[word].append(piece.removeprefix("##"))
    known, unknown = [], []
    for number, word in enumerate(words[:read]):
        if any(map(str.isalnum, word)):
            (known if _is_known(word, parts[number], tokenizer) else unknown).append(word)
    cut_at = everything[read] if read < len(everything) else None
    return Understood(tuple(known), tuple(unknown), cut_at)


def _is_known(word: str, pieces: list[str], tokenizer: Tokenizer) -> bool:
    if UNKNOWN_TOKEN in pieces or not pieces:
        return False
    if len(pieces) > 1 and sum(map(len, pieces)) < LETTERS_A_PIECE * len(pieces):
        return False
    return {script for letter in word if (script := _script(letter))} <= _scripts(tokenizer)


@functools.lru_cache(maxsize=8)
def _scripts(tokenizer: Tokenizer) -> frozenset[str]:
    """The scripts that a vocabulary has words in."""
    counts: collections.Counter[str] = collections.Counter()
    for entry in tokenizer.vocabulary:
        counts.update({script for letter in entry if (script := _script(letter))})
    enough = min(SCRIPT_ENTRIES, SCRIPT_SHARE * len(tokenizer.vocabulary))
    return frozenset(script for script, count in counts.items() if count >= enough)


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """LATIN, ARABIC, CJK, ...; "" for what is no letter."""
    name = unicodedata.name(letter, "").split(" ")[0] if letter.isalpha() else ""
    return ONE_SCRIPT.get(name, name)
