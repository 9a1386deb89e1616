"""Rules of grammar that mend the tags of descriptions, and the phrases of mended tags.

A tagger of general English knows what a word mostly is. What it is *here* follows from its
neighbors, and in a description of a person a few rules decide nearly all of it. Each rule says why
it holds. `python -m tools.phrases` measures them on marked fragments.

Tags are those of the Penn Treebank.
"""

from collections.abc import Sequence
from typing import NamedTuple

from cada_jax.text import description_words as known

NN, NNS, JJ, CC, DT, IN = "NN", "NNS", "JJ", "CC", "DT", "IN"
NOUNS = frozenset({NN, NNS})
PARTICIPLES = frozenset({"VBN", "VBD", "VBG"})
# What has a noun behind it sooner or later.
OPENING = frozenset({DT, "PRP$", "CD", "POS", JJ})
SUBJECTS = NOUNS | {"PRP", "WP", "WDT", "EX", "TO", "MD"}
BE = frozenset({"is", "are", "was", "were", "be", "been", "being"})
# As the lexicon has them -> as the phrases want them.
GENERAL = {"NNP": NN, "NNPS": NNS, "JJR": JJ, "JJS": JJ}


class Place(NamedTuple):
    """A word and its neighbors, "" beyond the ends.

    The tags before it are mended. `noun_ahead`: whether a noun follows, behind adjectives and
    participles alone.
    """

    word: str
    tag: str
    noun_ahead: bool
    before: str
    tag_before: str
    after: str


def tag_alone(word: str, tag: str) -> str:
    """The tag that a word of a description has wherever it stands, given that of a lexicon."""
    if word in known.TAGS:
        return known.TAGS[word]
    if "-" in word.strip("-"):
        # A compound is what its last part is: a "t-shirt" a shirt, "dark-colored" as "colored".
        tail = known.TAGS.get(word.rsplit("-", 1)[1], tag)
        return tail if tail in NOUNS else JJ
    stems = (word[:-2], word[:-1], word[:-3]) if word.endswith("ed") else ()
    if any(stem in known.PARTS for stem in stems):
        return JJ
    return GENERAL.get(tag, tag)


def _participle(p: Place) -> str | None:
    """Between determiner or adjective and noun it is an adjective: a long sleeved shirt.

    Behind a noun, a pronoun or "is" it says what somebody does or what was done: arms crossed, she
    is dressed in black.
    """
    if not p.noun_ahead or p.before in BE or p.tag_before in SUBJECTS:
        return None
    if p.word in known.TRANSITIVE and p.tag_before not in (DT, "PRP$"):
        return None
    return None if p.tag == "VBG" and p.before in known.BEFORE_GERUNDS else JJ


def _base_form(p: Place) -> str | None:
    """A verb cannot stand behind "a", "brown" or "with", so it is a noun there: a brown wrap."""
    noun = p.tag_before in OPENING or p.tag_before == IN
    return NN if noun and p.word not in BE else None


def _third_person(p: Place) -> str | None:
    """Behind a determiner it is a plural: the trims. An adjective may be a subject: in black."""
    plural = p.tag_before in (DT, "PRP$", "CD") and p.word not in ("is", "has", "was", "does")
    return NNS if plural else None


def _side(p: Place) -> str | None:
    """Left and right: adjectives before a noun, nouns behind a preposition, else adverb or verb."""
    inside = p.tag_before in OPENING or p.tag_before in (IN, "TO", CC, ",", "")
    if p.noun_ahead and inside:
        return JJ
    return NN if p.tag_before in OPENING or p.tag_before in (IN, "TO") else "RB"


def _measure(p: Place) -> str | None:
    """It counts what is behind "of", and that is the noun that matters: a pair of black shoes."""
    return DT if p.after == "of" else None


def _preposition(p: Place) -> str | None:
    """Between a preposition and "of" it belongs to them: in front of."""
    return IN if p.tag_before == IN and p.after == "of" else None


def _phrasal(p: Place) -> str | None:
    """A verb and its particle are one adjective before a noun: a button up shirt."""
    return JJ if p.after in known.PARTICLES and p.noun_ahead else None


def _particle(p: Place) -> str | None:
    """See `_phrasal`; also that of a participle which is an adjective: rolled up sleeves."""
    verb = p.before in known.PHRASAL or p.before.endswith(("ed", "en"))
    if verb and p.tag_before == JJ and p.noun_ahead:
        return JJ
    return NN if p.word == "back" and p.tag_before in OPENING else None


def _verb_of_person(p: Place) -> str | None:
    """Behind a person it is what the person does: he sports a beard."""
    person = p.before in known.PERSONS or p.tag_before in ("PRP", "WP", "WDT")
    return "VBZ" if person else None


def _contraction(p: Place) -> str | None:
    """What an apostrophe leaves of a word: he's, the man's, don't."""
    if p.before not in ("'", "\u2019"):
        return None
    return "MD" if p.word == "t" else "POS"


OF_TAG = {
    "VBN": _participle,
    "VBD": _participle,
    "VBG": _participle,
    "VB": _base_form,
    "VBP": _base_form,
    "VBZ": _third_person,
}
OF_WORD = {
    **dict.fromkeys(("left", "right"), _side),
    **dict.fromkeys(known.MEASURES, _measure),
    **dict.fromkeys(known.PLACES, _preposition),
    **dict.fromkeys(known.PHRASAL, _phrasal),
    **dict.fromkeys(known.PARTICLES, _particle),
    **dict.fromkeys(known.VERBS, _verb_of_person),
    **dict.fromkeys(("s", "t", "re", "ve", "ll", "d", "m"), _contraction),
}
NEITHER = (None, None)


def mend_tags(words: Sequence[str], tags: Sequence[str]) -> list[str]:
    """The tags of a description's words, each with its neighbors in view.

    Args:
      words: lower-case, marks of punctuation among them.
      tags: of each, wherever it stands; see `tag_alone`.
    """
    mended = list(tags)
    for i, word in enumerate(words):
        rules = OF_WORD.get(word), OF_TAG.get(mended[i])
        if rules == NEITHER:
            continue
        before, tag_before = (words[i - 1], mended[i - 1]) if i else ("", "")
        after = words[i + 1] if i + 1 < len(words) else ""
        ahead = _noun_ahead(words, mended, i)
        place = Place(word, mended[i], ahead, before, tag_before, after)
        for rule in rules:
            if rule is not None and (tag := rule(place)):
                mended[i] = tag
                break
    return mended


def _noun_ahead(words: Sequence[str], tags: Sequence[str], i: int) -> bool:
    """Whether a noun follows word i behind adjectives, participles and particles alone."""
    joined = False
    for j in range(i + 1, len(tags)):
        tag = tags[j]
        if tag in NOUNS:
            return not joined
        joined = tag == CC
        passes = tag == JJ or joined or tag in PARTICIPLES or words[j] in known.PARTICLES
        if not passes:
            break
    return False


def number_phrases(words: Sequence[str], tags: Sequence[str]) -> list[int]:
    """Numbers the attribute phrases of a description with mended tags.

    The grammar is (adjective, optional conjunction)* noun* plural-noun?. A conjunction has an
    adjective on both sides, or behind it the noun that the phrase's determiner still lacks: a black
    and leather bag. A plural ends its phrase, and so does a thing that an adjective follows: blue
    jeans | black shoes.

    Returns:
      For each word the number of its phrase, 1, 2, ... in reading order, or 0.
    """
    groups: list[int] = []
    count, inside, determined, before = 0, False, False, ""
    for i, tag in enumerate(tags):
        if tag == JJ or tag in NOUNS:
            if not inside:
                count += 1
                determined = before in (DT, "PRP$")
            elif before == NNS or (tag == JJ and before == NN and words[i - 1] in known.THINGS):
                count += 1
                determined = False
            inside = True
        elif tag == CC and inside and before == JJ:
            after = tags[i + 1] if i + 1 < len(tags) else ""
            inside = after == JJ or (determined and after in NOUNS)
        else:
            inside = False
        groups.append(count if inside else 0)
        before = tag
    return groups
