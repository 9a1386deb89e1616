"""Which kind of word each token of a caption belongs to.

Attribute words are those that the tagger found (`text.attribute_phrases`): they belong to a phrase
or have the tag of an adjective or a noun. Two lists pick colours and garments out of them.
"""

from typing import NamedTuple

import numpy as np

from cada_jax.data.datasets.synthetic import lexicon
from cada_jax.retrieval.attribute_prompts import COLORS, HAIR
from cada_jax.text.tokenizer import Tokenizer, split_words

COLOUR, GARMENT, OTHER, FUNCTION = "colour", "garment", "other attribute word", "function word"
CLS, SEP = "[CLS]", "[SEP]"
CLASSES = (COLOUR, GARMENT, OTHER, FUNCTION, CLS, SEP)
SEVERAL = "several"

COLOUR_WORDS = frozenset(
    word for table in (COLORS, HAIR) for words in table.values() for word in words
) | frozenset("light gold golden silver tan burgundy lavender magenta ivory mustard".split())
GARMENT_WORDS = frozenset(
    "shirt tshirt t-shirt tee blouse top sweater pullover jumper sweatshirt hoodie cardigan polo "
    "singlet dress frock gown jacket windbreaker coat overcoat parka vest waistcoat blazer suit "
    "uniform trousers pants slacks jeans shorts leggings skirt bottoms shoes shoe sneakers "
    "trainers boots sandals slippers heels flops footwear socks stockings hat cap beanie scarf "
    "shawl glasses spectacles eyeglasses sunglasses shades gloves belt tie clothes".split()
)


class Words(NamedTuple):
    """The words of Q captions of L tokens.

    Attributes:
      kind: int8 [Q,L], a number in `CLASSES`; -1 for padding.
      word: object [Q,L], the word that a token is a piece of; None outside words.
      index: int32 [Q,L], the number of that word in its caption; -1 outside words.
    """

    kind: np.ndarray
    word: np.ndarray
    index: np.ndarray


def classify_tokens(
    texts: list[str], tokenizer: Tokenizer, token_ids: np.ndarray, attribute: np.ndarray
) -> Words:
    """Sorts the tokens of captions into classes.

    Args:
      texts: Q cleaned captions.
      tokenizer: that made the tokens.
      token_ids: int32 [Q,L].
      attribute: bool [Q,L], the tokens of attribute words.
    """
    kind = np.full(token_ids.shape, -1, np.int8)
    index = np.full(token_ids.shape, -1, np.int32)
    word = np.full(token_ids.shape, None, object)
    for row, text in enumerate(texts):
        _, index[row] = tokenizer.encode(text, token_ids.shape[1])
        spelt = split_words(text)
        for place in np.flatnonzero(index[row] >= 0):
            word[row, place] = spelt[index[row, place]]
            kind[row, place] = CLASSES.index(class_of(word[row, place], attribute[row, place]))
    kind[token_ids == tokenizer.special["cls"]] = CLASSES.index(CLS)
    kind[token_ids == tokenizer.special["sep"]] = CLASSES.index(SEP)
    return Words(kind, word, index)


def class_of(word: str, attribute: bool) -> str:
    """The class of one word; of a compound, "dark-blue" or "t-shirt", its last part decides."""
    if not attribute:
        return FUNCTION
    forms = {word, word.rsplit("-", 1)[-1]}
    if forms & COLOUR_WORDS:
        return COLOUR
    return GARMENT if forms & GARMENT_WORDS else OTHER


def attributes_of_words() -> dict[str, str]:
    """Word of the generated captions -> the attribute it tells of, or `SEVERAL`.

    Colours are told apart by the noun behind them, so that all are "color" here.
    """
    colours = {c for table in (lexicon.COLOR_WORDS, lexicon.HAIR_COLOR_WORDS) for c in table}
    said: dict[str, list[str]] = {"color": [*colours]}
    for table in (lexicon.COLOR_WORDS, lexicon.HAIR_COLOR_WORDS):
        said["color"] += [phrase for phrases in table.values() for phrase in phrases]
    said["gender"] = [phrase for phrases in lexicon.SUBJECTS.values() for phrase in phrases]
    said["hair_style"] = [p for phrases in lexicon.HAIR_STYLE_WORDS.values() for p in phrases]
    said["top_pattern"] = [
        p for before, after in lexicon.PATTERN_WORDS.values() for p in (*before, *after)
    ]
    for attribute, kinds in lexicon.KIND_WORDS.items():
        said[attribute] = [phrase for phrases in kinds.values() for phrase in phrases]
    found: dict[str, str] = {}
    for attribute, phrases in said.items():
        for word in split_words(" ".join(phrases).replace("{c}", " ")):
            found[word] = attribute if found.get(word, attribute) == attribute else SEVERAL
    return found
