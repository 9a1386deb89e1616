"""Writes what one image shows of a person, in varied English."""

import re
from dataclasses import dataclass

import numpy as np

from cada_jax.data.datasets.synthetic import lexicon
from cada_jax.data.datasets.synthetic.asides import absences, comparisons
from cada_jax.data.datasets.synthetic.camera import FRONT, Shot, visible
from cada_jax.data.datasets.synthetic.identity import NONE, Identity
from cada_jax.data.datasets.synthetic.speech import HOME_SPEECH, Speech

MIN_WORDS, MAX_WORDS, MAX_PIECES = 15, 45, 46
_WEAR, _HAVE, _CARRY, _ASIDE = "wear", "have", "carry", "aside"
_THINGS = "headwear eyewear beard scarf outer top bottom shoes bag item".split()
_ROLES = {"beard": _HAVE, "bag": _CARRY, "item": _CARRY}  # all others are worn


@dataclass(frozen=True)
class Caption:
    """A text and the attributes it states: pairs (field of Identity, value), in order."""

    text: str
    stated: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Segment:
    role: str
    text: str
    stated: tuple[tuple[str, str], ...]


def count_pieces(text: str) -> int:
    """WordPieces of `vocab.txt`: words and punctuation marks left by `clean_caption`."""
    words = re.findall(r"\w+|[^\w\s.]", text.lower())
    return sum(lexicon.PIECES.get(word, 1) for word in words)


class _Words:
    """What can be said, and a stream of choices: drawn in blocks, as single draws are slow."""

    def __init__(self, rng: np.random.Generator, speech: Speech):
        self.speech = speech
        self._rng = rng
        self._values = iter(())

    def uniform(self) -> float:
        for value in self._values:
            return value
        self._values = iter(self._rng.random(64).tolist())
        return next(self._values)

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def choose(self, options):
        return options[int(self.uniform() * len(options))]

    def shuffle(self, values: list) -> list:
        return [v for _, v in sorted(((self.uniform(), v) for v in values), key=lambda p: p[0])]


def write_caption(
    identity: Identity, shot: Shot, rng: np.random.Generator, speech: Speech = HOME_SPEECH
) -> Caption:
    """Returns a caption of `MIN_WORDS` to `MAX_WORDS` words about visible attributes only.

    About a fifth of the visible attributes is left out at random; more where the text
    would grow longer than `MAX_PIECES` WordPieces.
    """
    w = _Words(rng, speech)
    seen = visible(identity, shot)
    gender = None if w.chance(0.12) else identity.gender
    kept = w.shuffle(_segments(w, seen, shot, omit=True))
    if len(kept) < 4:
        said = {field for segment in kept for field, _ in segment.stated}
        for segment in w.shuffle(_segments(w, seen, shot, omit=False)):
            if len(kept) < 4 and not said & {field for field, _ in segment.stated}:
                kept.append(segment)
    kept += _asides(w, seen)
    compose = _notes if speech.notes and w.chance(speech.notes) else _compose
    while True:
        text = _lengthen(w, *compose(w, gender, kept, shot), shot)
        if count_pieces(text) <= MAX_PIECES and len(text.split()) <= MAX_WORDS:
            break
        kept = kept[:-1]
    stated = ((("gender", gender),) if gender else ()) + tuple(
        pair for segment in kept for pair in segment.stated
    )
    return Caption(text, stated)


def _segments(w: _Words, seen: dict[str, str], shot: Shot, omit: bool) -> list[_Segment]:
    things = (_thing(w, field, seen, shot, omit) for field in _THINGS)
    segments = [_hair(w, seen, omit), *things]
    return [segment for segment in segments if segment is not None]


def _asides(w: _Words, seen: dict[str, str]) -> list[_Segment]:
    """What is not there, and how colours compare: at most one of each, by `Speech`."""
    found = []
    for share, say in ((w.speech.negations, absences), (w.speech.relations, comparisons)):
        if share and w.chance(share) and (options := say(seen, w.choose)):
            found.append(_Segment(_ASIDE, *w.choose(options)))
    return found


def _hair(w: _Words, seen: dict[str, str], omit: bool) -> _Segment | None:
    style, color = seen.get("hair_style"), seen.get("hair_color")
    if omit and w.chance(w.speech.omit_kind):
        style = None
    if color in (None, NONE) or (omit and style != "bald" and w.chance(w.speech.omit_color)):
        color = None
    if style is None and color is None:
        return None
    stated = [("hair_style", style)] if style else []
    text = w.choose(w.speech.hair_styles[style]) if style else "{c} hair"
    color_word = ""
    if color:
        color_word = w.choose(w.speech.hair_colors[color])
        stated.append(("hair_color", color))
    return _Segment(_HAVE, _fill(text, color_word), tuple(stated))


def _thing(w: _Words, field: str, seen: dict[str, str], shot: Shot, omit: bool) -> _Segment | None:
    kinds = w.speech.kinds[field]
    kind, color = seen.get(field), seen.get(field + "_color")
    if kind == NONE or (kind is None and color is None):
        return None
    if omit and w.chance(w.speech.omit_kind):
        kind = None
        if None not in kinds or w.chance(0.3):
            return None
    if color is None or (omit and kind is not None and w.chance(w.speech.omit_color)):
        color = None
    stated = [(field, kind)] if kind else []
    key = kind
    if field == "top" and seen["outer"] != NONE:
        key = "under"
    if kind == "backpack" and shot.view == FRONT:
        key = "backpack straps"
    if field == "bag" and kind is None and seen[field] == "backpack" and shot.view == FRONT:
        return None  # straps alone are not "a bag"
    text = w.choose(kinds[key])  # pyrefly: ignore[bad-index]
    before, after = "", ""
    if color:
        before = w.choose(w.speech.colors[color])
        stated.append((field + "_color", color))
    if field == "top" and kind is not None:
        before, after = _pattern(w, seen, before, stated, omit)
    return _Segment(_ROLES.get(field, _WEAR), _fill(text, before) + after, tuple(stated))


def _pattern(
    w: _Words, seen: dict[str, str], color: str, stated: list, omit: bool
) -> tuple[str, str]:
    pattern = seen.get("top_pattern")
    if pattern is None or (omit and w.chance(w.speech.omit_color)):
        return color, ""
    if pattern == "plain" and not w.chance(0.25):
        return color, ""  # that a plain shirt is plain is seldom worth a word
    stated.append(("top_pattern", pattern))
    adjectives, phrases = w.speech.patterns[pattern]
    if phrases and w.chance(0.4):
        return color, " " + w.choose(phrases)
    adjective = w.choose(adjectives)
    both = (adjective, color) if w.chance(0.5) else (color, adjective)
    return " ".join(both).strip(), ""


def _fill(text: str, color: str) -> str:
    text = " ".join(text.replace("{c}", color).split())
    if text.startswith("a ") and text[2] in "aeiou":
        return "an" + text[1:]
    return text


def _list(w: _Words, texts: list[str]) -> str:
    if len(texts) == 1:
        return texts[0]
    last = w.choose((" and ", " and ", " together with ", " as well as "))
    if len(texts) > 2 and w.chance(0.3):
        last = ", and "
    return ", ".join(texts[:-1]) + last + texts[-1]


def _compose(
    w: _Words, gender: str | None, segments: list[_Segment], shot: Shot
) -> tuple[str, str]:
    """Joins the segments to one, two or three sentences; returns them and the pronoun."""
    roles = {role: [s.text for s in segments if s.role == role] for role in (_WEAR, _HAVE, _CARRY)}
    subject = w.choose(("a ", "the ")) + w.choose(w.speech.subjects[gender])
    pronoun = w.speech.pronouns[gender] if w.chance(0.8) else "the " + subject.split(" ", 1)[1]
    clauses = []
    with_hair = roles[_HAVE] and w.chance(0.5)
    if with_hair:
        subject += " with " + _list(w, roles[_HAVE])
    elif roles[_HAVE]:
        clauses.append(f"{w.choose(w.speech.has)} {_list(w, roles[_HAVE])}")
    wear = roles[_WEAR]
    if len(wear) > 3 and w.chance(0.5):
        clauses.append(f"{w.choose(w.speech.wears)} {_list(w, wear[:2])}")
        wear = wear[2:]
    if wear:
        clauses.append(f"{w.choose(w.speech.wears)} {_list(w, wear)}")
    if roles[_CARRY]:
        clauses.append(f"{w.choose(w.speech.carries)} {_list(w, roles[_CARRY])}")
    clauses += [s.text for s in segments if s.role == _ASIDE]
    if w.chance(0.12) or not clauses:
        clauses.append(w.choose(w.speech.moves[shot.walking]))
    clauses = w.shuffle(clauses)
    text = w.choose(w.speech.openings) + " " + subject
    for i, clause in enumerate(clauses):
        if i == 0:
            text += " " + clause
        elif w.chance(0.35):
            text += " and " + clause
        else:
            text += f". {pronoun} {clause}"
    return text, pronoun


def _notes(w: _Words, gender: str | None, segments: list[_Segment], shot: Shot) -> tuple[str, str]:
    """Lists the segments after the subject; returns the list and the pronoun."""
    texts = [re.sub(r"^an? ", "", s.text) for s in segments]
    cut = len(texts) // 2
    subject = w.choose(w.speech.subjects[gender])
    text = f"{subject}: {', '.join(texts[:cut])}. {', '.join(texts[cut:])}"
    return text, w.speech.pronouns[gender]


def _lengthen(w: _Words, text: str, pronoun: str, shot: Shot) -> str:
    """Adds what is true of many images until the text has `MIN_WORDS` words; ends the sentence."""
    missing = MIN_WORDS - len(text.split())
    if missing > 0:
        text += f". {pronoun} {w.choose(w.speech.moves[shot.walking])} {w.choose(w.speech.places)}"
    while len(text.split()) < MIN_WORDS:
        text += ". the picture was taken by a camera"
    return re.sub(r"(^|\. )([a-z])", lambda m: m[1] + m[2].upper(), text.strip()) + "."
