"""What free descriptions say besides: what a person has not, and how colours compare.

"without a hat" states that there is none; "a jacket darker than the trousers" states no value, and
the ceiling of `tools.ceiling` does not use it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from cada_jax.data.datasets.synthetic.identity import COLORS, NONE
from cada_jax.data.datasets.synthetic.painter import luminance

# Nouns of things whose absence is worth a word.
ABSENT = {
    "headwear": ("hat", "cap"),
    "eyewear": ("glasses",),
    "scarf": ("scarf",),
    "bag": ("bag",),
    "beard": ("beard",),
}
_PLURAL = ("glasses",)
COMPARED = ("outer", "top", "bottom", "shoes", "bag")
_CLEARLY = 70  # grey levels between two colours that anybody calls lighter and darker


class Aside(NamedTuple):
    """A clause after "the man", and the attributes that it states: pairs (field, value)."""

    text: str
    stated: tuple[tuple[str, str], ...] = ()


def absences(seen: Mapping[str, str], choose: Callable[[Sequence[str]], str]) -> list[Aside]:
    """One aside for everything of `ABSENT` that the image shows not to be there."""
    found = []
    for field, nouns in ABSENT.items():
        if seen.get(field) == NONE:
            noun = choose(nouns)
            one = noun if noun in _PLURAL else f"a {noun}"
            text = choose((f"has no {noun}", f"is without {one}", f"wears no {noun}"))
            if field in ("bag", "beard"):
                text = text.replace("wears", "has")
            found.append(Aside(text, ((field, NONE),)))
    return found


def comparisons(seen: Mapping[str, str], choose: Callable[[Sequence[str]], str]) -> list[Aside]:
    """One aside for every two visible garments, one of which is clearly darker."""
    nouns = {field: seen[field] for field in COMPARED if _comparable(seen, field)}
    found = []
    for a in nouns:
        for b in nouns:
            gap = luminance(COLORS[seen[a + "_color"]]) - luminance(COLORS[seen[b + "_color"]])
            if a != b and abs(gap) > _CLEARLY:
                than = "lighter than" if gap > 0 else "darker than"
                have = choose(("has a", "is with a")) if nouns[a][-1] != "s" else "has"
                found.append(Aside(f"{have} {nouns[a]} {than} the {nouns[b]}"))
    return found


def _comparable(seen: Mapping[str, str], field: str) -> bool:
    kind, color = seen.get(field), seen.get(field + "_color")
    return kind not in (None, NONE) and color not in (None, NONE)
