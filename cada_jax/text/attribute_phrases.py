"""Captions to attribute phrases: what the ARA loss masks. Run once, at data preparation."""

import html
import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from cada_jax.common.errors import UsageError
from cada_jax.text.taggers import ATTRIBUTE_TAGS, DEFAULT_TAGGER, Tagger, make_tagger
from cada_jax.text.tokenizer import MARKS, Tokenizer, clean_caption, split_words

TAG_UNITS = ("word", "wordpiece")
# The others (" * # ~) end nothing: an "adidas" shirt.
ENDS_NOTHING = str.maketrans('"*#~', " " * 4)

MOST_WORDS = 500  # of a caption as published; the first 72 are read
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")


def annotate(
    caption: str, tokenizer: Tokenizer, max_length: int, tagger: Tagger, tag_unit: str = "word"
) -> dict[str, Any]:
    """Encodes one caption and marks its attributes.

    Args:
      caption: as published, or cleaned; see `clean_caption`.
      max_length: L, tokens with [CLS] and [SEP].
      tag_unit: "word" tags words and carries the tag to their pieces. "wordpiece" tags pieces
        and lets [SEP] be masked as a single token, both as the released code does.

    Returns:
      text: the cleaned caption.
      token_ids: int32 [L].
      phrase_ids: int32 [L], number 1.. of the attribute phrase of the token, 0 for none.
      attribute_mask: bool [L], tokens tagged JJ, NN, NNS, NNP or NNPS.
    """
    text = clean_caption(caption)
    pieces, piece_ids, words = tokenizer.split(text)
    token_ids, _ = tokenizer.frame(piece_ids, words, max_length)
    n = min(len(pieces), max_length - 2)
    if tag_unit == "word":
        tags, groups = find_phrases(caption, tagger)
        unit = words[:n].tolist()
    else:
        tags = tagger.tag(pieces)
        groups = tagger.group(pieces, tags)
        unit = range(n)
    # A word the tokenizer drops (a control character) leaves no gap: numbers stay below L.
    number = {0: 0}
    phrase_ids = np.zeros(max_length, np.int32)
    attribute_mask = np.zeros(max_length, bool)
    phrase_ids[1 : n + 1] = [number.setdefault(groups[i], len(number)) for i in unit]
    attribute_mask[1 : n + 1] = [tags[i] in ATTRIBUTE_TAGS for i in unit]
    if tag_unit == "wordpiece":
        attribute_mask[n + 1] = True
    return {
        "text": text,
        "token_ids": token_ids,
        "phrase_ids": phrase_ids,
        "attribute_mask": attribute_mask,
    }


def find_phrases(caption: str, tagger: Tagger) -> tuple[list[str], list[int]]:
    """Tags and attribute phrases of a caption's words, which are those of the cleaned caption.

    Args:
      caption: as published, or cleaned: then no phrase is known to end with its sentence.

    Returns:
      For each word its tag, and the number of its phrase, 1, 2, ... in reading order, or 0.
    """
    if not tagger.reads_marks:
        words = split_words(clean_caption(caption))
        tags = tagger.tag(words)
        return tags, tagger.group(words, tags)
    # Cleaning removes the marks, which are words of their own here, and no other word.
    words = split_words(caption.lower().translate(ENDS_NOTHING))
    tags = tagger.tag(words)
    kept = [word not in MARKS for word in words]
    groups = tagger.group(words, tags)
    return list(itertools.compress(tags, kept)), list(itertools.compress(groups, kept))


class CaptionEncoder:
    """Cleans, tokenizes and tags captions, the same way for every data set.

    Attributes:
      tokenizer: the vocabulary in use; `tokenizer.path` is its file.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        tagger: str = DEFAULT_TAGGER,
        tag_unit: str = "word",
    ):
        """Keeps the settings (fields max_length, tagger and tag_unit of config.data)."""
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.tag_unit = tag_unit
        self.tagger = make_tagger(tagger)

    def encode(self, captions: Sequence[str], image_path: str) -> list[dict[str, Any]]:
        """Returns the "captions" feature of one image, given its captions as published.

        Raises:
          UsageError: a caption is not a string or has no word; the image is named.
        """
        return [self._encode_one(caption, image_path) for caption in captions]

    def _encode_one(self, caption: str, image_path: str) -> dict[str, Any]:
        problem = caption_problem(caption)
        if problem:
            raise UsageError(f"image {image_path}: {problem}")
        return annotate(caption, self.tokenizer, self.max_length, self.tagger, self.tag_unit)


def has_word(text: str) -> bool:
    """Whether anything but punctuation is left of a cleaned caption."""
    return any(map(str.isalnum, text))


def caption_problem(caption: Any) -> str | None:
    """Returns what is wrong with a caption as published, None if nothing is.

    Cleaning takes care of tabs, line breaks and repeated blanks, and cuts a caption to 72 words. A
    caption is refused where nothing is left to search by (punctuation, emoji, characters of no
    width), or where it is no description at all.
    """
    shown = repr(caption)
    shown = shown if len(shown) <= 80 else f"{shown[:76]} ..."
    if not isinstance(caption, str):
        return f"a caption is not a string but {type(caption).__name__}: {shown}"
    try:
        caption.encode()
    except UnicodeEncodeError:
        return f"caption {shown} holds half a character (a lone surrogate): write it in UTF-8"
    if not has_word(clean_caption(caption)):
        return f"empty caption {shown}: expected at least one word"
    words = len(caption.split())
    if words > MOST_WORDS:
        return (
            f"caption {shown} has {words:,} words, expected one description: {MOST_WORDS} at most"
        )
    return None


def find_entity(caption: str) -> str | None:
    """Returns the first HTML entity in a caption ("&amp;"), None if there is none."""
    matches = (match.group() for match in _ENTITY.finditer(caption))
    return next((text for text in matches if html.unescape(text) != text), None)
