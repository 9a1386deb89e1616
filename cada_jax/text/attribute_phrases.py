"""Captions to attribute phrases: what the ARA loss masks. Run once, at data preparation."""

import html
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.text.tokenizer import Tokenizer, clean_caption, split_words

# Penn Treebank tags.
ADJECTIVE = "JJ"
CONJUNCTION = "CC"
PHRASE_TAGS = frozenset({ADJECTIVE, "NN", "NNS"})
ATTRIBUTE_TAGS = frozenset({ADJECTIVE, "NN", "NNS", "NNP", "NNPS"})

TAGGERS = ("pattern", "nltk")
TAG_UNITS = ("word", "wordpiece")

# Pattern takes these for an adjective or verbs; in a description of clothes they are nouns, and
# "a white top and blue jeans" would become one phrase.
GARMENTS = {"top": "NN", "watch": "NN", "flops": "NNS"}

MOST_WORDS = 500  # of a caption as published; the first 72 are read
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")

Tagger = Callable[[Sequence[str]], list[str]]


def make_tagger(name: str) -> Tagger:
    """Returns a function from the words of one caption to their Penn Treebank tags.

    Args:
      name: "pattern", the lexicon and rules bundled with textblob with a few corrections for
        clothes, or "nltk", NLTK's averaged perceptron, which needs its data on the machine.

    Raises:
      UsageError: another name.
      MissingFileError: NLTK's data is absent.
    """
    if name == "pattern":
        return _pattern_tags
    if name == "nltk":
        perceptron = _load_perceptron()
        return lambda words: [tagged[1] for tagged in perceptron.tag(list(words))]
    raise UsageError(f"unknown tagger {name!r} (data.tagger): expected one of {TAGGERS}")


def _pattern_tags(words: Sequence[str]) -> list[str]:
    from textblob.en import parser

    tags = [tag for _, tag in parser.find_tags(list(words))]
    for i, word in enumerate(words):
        if word in GARMENTS:
            tags[i] = GARMENTS[word]
        elif tags[i] == ADJECTIVE and "-" in word:
            # Every unknown compound is an adjective to Pattern: "t-shirt" is what "shirt" is.
            tail = parser.lexicon.get(word.rsplit("-", 1)[1])
            tags[i] = tail if tail in PHRASE_TAGS else tags[i]
    return tags


def _load_perceptron():
    import nltk

    try:
        return nltk.PerceptronTagger(lang="eng")
    except LookupError as err:
        raise MissingFileError(
            "data.tagger=nltk needs NLTK's resource averaged_perceptron_tagger_eng, found in none "
            f"of {nltk.data.path}. Run `python -m nltk.downloader averaged_perceptron_tagger_eng`, "
            "or set NLTK_DATA to the folder that holds taggers/averaged_perceptron_tagger_eng, or "
            "use data.tagger=pattern, which needs no data"
        ) from err


def tag_words(words: Sequence[str], tagger: str | Tagger) -> list[str]:
    """Returns the Penn Treebank tag of each word of one caption; see `make_tagger`."""
    if not words:
        return []
    return (make_tagger(tagger) if isinstance(tagger, str) else tagger)(words)


def phrase_groups(tags: Sequence[str]) -> list[int]:
    """Numbers the attribute phrases of a tagged caption.

    The grammar is (adjective, optional conjunction)* noun? plural-noun?, and phrases that touch
    are one: a phrase is a longest run of JJ, NN and NNS, in which CC may follow a JJ. NNP is
    left out, as in the released code: in lower-case captions it marks words unknown to the tagger.

    Returns:
      For each tag the number of its phrase, 1, 2, ... in reading order, or 0.
    """
    groups: list[int] = []
    count = 0
    previous = ""
    for tag in tags:
        inside = bool(groups) and groups[-1] > 0
        if tag in PHRASE_TAGS:
            count += not inside
            groups.append(count)
        elif tag == CONJUNCTION and previous == ADJECTIVE:
            groups.append(count)
        else:
            groups.append(0)
        previous = tag
    return groups


def annotate(
    text: str,
    tokenizer: Tokenizer,
    max_length: int,
    tagger: str | Tagger = "pattern",
    tag_unit: str = "word",
) -> dict[str, np.ndarray]:
    """Encodes one cleaned caption and marks its attributes.

    Args:
      text: a caption, see `clean_caption`.
      tokenizer: gives pieces and words.
      max_length: L, tokens with [CLS] and [SEP].
      tagger: a name of `TAGGERS`, or what `make_tagger` returned (cheaper for many captions).
      tag_unit: "word" tags words and carries the tag to their pieces. "wordpiece" tags pieces
        and lets [SEP] be masked as a single token, both as the released code does.

    Returns:
      token_ids: int32 [L].
      phrase_ids: int32 [L], number 1.. of the attribute phrase of the token, 0 for none.
      attribute_mask: bool [L], tokens tagged JJ, NN, NNS, NNP or NNPS.
    """
    if tag_unit not in TAG_UNITS:
        raise UsageError(f"unknown data.tag_unit {tag_unit!r}: expected one of {TAG_UNITS}")
    pieces, piece_ids, words = tokenizer.split(text)
    token_ids, _ = tokenizer.frame(piece_ids, words, max_length)
    n = min(len(pieces), max_length - 2)
    if tag_unit == "word":
        tags = tag_words(split_words(text), tagger)
        unit = words[:n].tolist()
    else:
        tags = tag_words(pieces, tagger)
        unit = range(n)
    groups = phrase_groups(tags)
    # A word the tokenizer drops (a control character) leaves no gap: numbers stay below L.
    number = {0: 0}
    phrase_ids = np.zeros(max_length, np.int32)
    attribute_mask = np.zeros(max_length, bool)
    phrase_ids[1 : n + 1] = [number.setdefault(groups[i], len(number)) for i in unit]
    attribute_mask[1 : n + 1] = [tags[i] in ATTRIBUTE_TAGS for i in unit]
    if tag_unit == "wordpiece":
        attribute_mask[n + 1] = True
    return {"token_ids": token_ids, "phrase_ids": phrase_ids, "attribute_mask": attribute_mask}


class CaptionEncoder:
    """Cleans, tokenizes and tags captions, the same way for every data set.

    Attributes:
      tokenizer: the vocabulary in use; `tokenizer.path` is its file.
    """

    def __init__(
        self, tokenizer: Tokenizer, max_length: int, tagger: str = "pattern", tag_unit: str = "word"
    ):
        """Keeps the settings (fields max_length, tagger and tag_unit of config.data)."""
        if tag_unit not in TAG_UNITS:
            raise UsageError(f"unknown data.tag_unit {tag_unit!r}: expected one of {TAG_UNITS}")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.tag_unit = tag_unit
        self.tagger: Tagger = make_tagger(tagger)

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
        text = clean_caption(caption)
        arrays = annotate(text, self.tokenizer, self.max_length, self.tagger, self.tag_unit)
        return {"text": text, **arrays}


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
