"""Captions to BERT WordPiece ids, with the word every piece belongs to.

Cleaning follows the released CADA code, the pieces are those of BERT uncased.
"""

import bisect
import functools
import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as PieceTokenizer
from tokenizers import models, normalizers, pre_tokenizers

from cada_jax.text.vocabulary import SPECIAL_TOKENS, UNKNOWN_TOKEN, find_vocabulary, read_vocabulary

# Different words of captions, their punctuation included, that are split once only.
CACHED_WORDS = 2**16

MARKS = frozenset('.!"()*#:;~')  # of no meaning to the model: cleaning makes them blanks
_REMOVED = str.maketrans("".join(MARKS), " " * len(MARKS))
# A hyphenated compound is one word ("knee-length"), so that a tagger sees one attribute in it.
_WORD = re.compile(r"\w+(?:-\w+)*|[^\w\s]")


def clean_caption(text: str, max_words: int = 72) -> str:
    """Returns a caption in lower case, without . ! " ( ) * # : ; ~ and with single blanks.

    Args:
      max_words: blank-separated words kept, counted after cleaning.
    """
    return " ".join(text.lower().translate(_REMOVED).split()[:max_words])


def find_words(text: str) -> list[tuple[int, int]]:
    """Returns the (start, end) characters of each word, and of each lone punctuation mark."""
    return [match.span() for match in _WORD.finditer(text)]


def split_words(text: str) -> list[str]:
    """Returns the words themselves, in the same order."""
    return _WORD.findall(text)


class Tokenizer:
    """WordPiece over one vocabulary file, one entry per line, line number = id.

    Attributes:
      path: the vocabulary file.
      special: id of each of "pad", "cls", "sep", "mask", "dec", "enc". [DEC] and [ENC] get
        the ids after the file's last entry where the file lacks them.
      vocab_size: number of ids, appended ones included.
    """

    def __init__(self, path: str | Path):
        """Reads the file.

        Raises:
          MissingFileError: there is no such file.
          UsageError: the file is no WordPiece vocabulary, or has an entry twice.
        """
        self.path = Path(path)
        self.vocabulary = read_vocabulary(self.path)
        self._entries = list(self.vocabulary)
        self.vocab_size = len(self.vocabulary)
        self.special = {name: self.vocabulary[token] for name, token in SPECIAL_TOKENS.items()}
        self._pieces = PieceTokenizer(models.WordPiece(self.vocabulary, unk_token=UNKNOWN_TOKEN))
        self._pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
        self._pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._split_word = functools.lru_cache(maxsize=CACHED_WORDS)(self._split_new_word)

    def split(self, text: str) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Splits a cleaned caption, without special tokens and without truncation.

        Returns:
          The n pieces as strings ("sleeve", "##d"), their ids (int32 [n]) and the index in
          `find_words(text)` of the word each piece begins in (int32 [n]).
        """
        # Neither a piece nor a word reaches over a blank, so that what is between two blanks is
        # split alone, and the few thousand different ones are split once.
        pieces: list[str] = []
        ids: list[int] = []
        words: list[int] = []
        before = 0
        for part in text.split():
            part_pieces, part_ids, part_words, count = self._split_word(part)
            pieces += part_pieces
            ids += part_ids
            words += [before + word for word in part_words]
            before += count
        return pieces, np.array(ids, np.int32), np.array(words, np.int32)

    def _split_new_word(self, text: str) -> tuple[list[str], list[int], list[int], int]:
        """What `split` returns for a text without blanks, and the number of its words."""
        encoding = self._pieces.encode(text, add_special_tokens=False)
        ends = [end for _, end in find_words(text)]
        words = [bisect.bisect_right(ends, start) for start, _ in encoding.offsets]
        return encoding.tokens, encoding.ids, words, len(ends)

    def encode(self, text: str, max_length: int) -> tuple[np.ndarray, np.ndarray]:
        """Encodes a cleaned caption.

        Args:
          max_length: L, with [CLS] and [SEP]; pieces that do not fit are cut off.

        Returns:
          ids: int32 [L], [CLS] pieces [SEP] [PAD]...
          word_index: int32 [L], the word of each piece, -1 at special tokens and padding.
        """
        _, piece_ids, words = self.split(text)
        return self.frame(piece_ids, words, max_length)

    def frame(
        self, piece_ids: np.ndarray, words: np.ndarray, max_length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Puts special tokens around what `split` gave: the second half of `encode`."""
        ids = np.full(max_length, self.special["pad"], np.int32)
        word_index = np.full(max_length, -1, np.int32)
        n = min(len(piece_ids), max_length - 2)
        ids[0] = self.special["cls"]
        ids[1 : n + 1] = piece_ids[:n]
        ids[n + 1] = self.special["sep"]
        word_index[1 : n + 1] = words[:n]
        return ids, word_index

    def tokens(self, ids: np.ndarray) -> list[str]:
        """Returns the vocabulary entries of ids ([n], any integers below vocab_size)."""
        return [self._entries[int(i)] for i in ids]


def load_tokenizer(path_or_hub_name: str | Path) -> Tokenizer:
    """The tokenizer of the vocabulary that `vocabulary.find_vocabulary` finds; raises as it does.

    Raises:
      UsageError: the file found is no WordPiece vocabulary.
    """
    return Tokenizer(find_vocabulary(path_or_hub_name))
