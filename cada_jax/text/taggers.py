"""Part-of-speech taggers of descriptions, and how each groups its tags to attribute phrases."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

from cada_jax.common.errors import MissingFileError
from cada_jax.text import description_grammar

# Penn Treebank tags.
ADJECTIVE = "JJ"
CONJUNCTION = "CC"
PHRASE_TAGS = frozenset({ADJECTIVE, "NN", "NNS"})
ATTRIBUTE_TAGS = frozenset({ADJECTIVE, "NN", "NNS", "NNP", "NNPS"})

TAGGERS = ("grammar", "pattern", "nltk")
DEFAULT_TAGGER = "grammar"

# Pattern takes these for an adjective or verbs; in a description of clothes they are nouns, and
# "a white top and blue jeans" would become one phrase.
GARMENTS = {"top": "NN", "watch": "NN", "flops": "NNS"}


def phrase_groups(words: Sequence[str], tags: Sequence[str]) -> list[int]:
    """Numbers the attribute phrases of a tagged caption, as the released code groups its tags.

    The grammar is (adjective, optional conjunction)* noun? plural-noun?, and phrases that touch
    are one: a phrase is a longest run of JJ, NN and NNS, in which CC may follow a JJ. NNP is
    left out, as in the released code: in lower-case captions it marks words unknown to the tagger.

    Returns:
      For each tag the number of its phrase, 1, 2, ... in reading order, or 0.
    """
    del words
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


@dataclasses.dataclass(frozen=True)
class Tagger:
    """How a caption's words are tagged and grouped.

    Attributes:
      tag: the words of one caption -> the Penn Treebank tag of each.
      group: words and tags -> for each word the number of its attribute phrase, 1, 2, ..., or 0.
      reads_marks: whether the words contain the marks that end sentences, which cleaning removes.
    """

    tag: Callable[[Sequence[str]], list[str]]
    group: Callable[[Sequence[str], Sequence[str]], list[int]] = phrase_groups
    reads_marks: bool = False


def make_tagger(name: str) -> Tagger:
    """The tagger of a name.

    Args:
      name: "grammar", Pattern's lexicon and rules of grammar, see `description_grammar`;
        "pattern", the lexicon and rules bundled with textblob with a few corrections for clothes;
        "nltk", NLTK's averaged perceptron, which needs its data on the machine.

    Raises:
      MissingFileError: NLTK's data is absent.
    """
    if name == "grammar":
        group = description_grammar.number_phrases
        return Tagger(_grammar_tags(), group, reads_marks=True)
    if name == "pattern":
        return Tagger(_pattern_tags)
    perceptron = _load_perceptron()
    return Tagger(lambda words: [tagged[1] for tagged in perceptron.tag(list(words))])


def _grammar_tags() -> Callable[[Sequence[str]], list[str]]:
    from textblob.en import parser

    lexicon = parser.lexicon

    @functools.lru_cache(maxsize=2**16)
    def usual_tag(word: str) -> str:
        if "-" in word.strip("-"):
            tag = lexicon.get(word.rpartition("-")[2]) or ADJECTIVE
        else:  # an unknown word has the tag that its ending makes likely
            tag = lexicon.get(word) or parser.find_tags(["the", word])[1][1]
        return description_grammar.tag_alone(word, tag)

    return lambda words: description_grammar.mend_tags(words, list(map(usual_tag, words)))


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
            "use data.tagger=grammar, which needs no data"
        ) from err
