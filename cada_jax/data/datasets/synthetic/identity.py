"""Who a generated person is: attributes, how they are drawn, and near-twins.

An identity is a tuple of attribute values. Whether two persons can ever be told
apart by a caption is decided by these values alone; everything else (camera,
pose, words) varies from image to image.
"""

import hashlib
from typing import NamedTuple

import numpy as np

NONE = "none"

# Twelve colours far apart in RGB: the light of a scene and the lightness jitter of
# `drawing` move a colour by much less than the distance to its neighbour.
COLORS = {
    "black": (26, 26, 31),
    "white": (242, 242, 238),
    "gray": (128, 130, 136),
    "red": (208, 24, 34),
    "orange": (246, 128, 12),
    "yellow": (250, 218, 36),
    "green": (34, 146, 58),
    "blue": (28, 76, 206),
    "turquoise": (46, 200, 204),
    "pink": (250, 132, 186),
    "purple": (122, 42, 168),
    "brown": (112, 66, 32),
}
HAIR_COLORS = {
    "black": (24, 20, 20),
    "brown": (98, 58, 30),
    "blond": (232, 196, 96),
    "red": (186, 74, 22),
    "gray": (176, 176, 178),
}
SKINS = {"light": (240, 198, 166), "medium": (202, 146, 104), "dark": (116, 76, 52)}


class Identity(NamedTuple):
    """Attributes of a person, each a lower-case word; "none" where there is nothing."""

    gender: str  # man, woman (as it appears)
    skin: str  # drawn, never put into words
    hair_style: str  # bald, short, medium, long, ponytail, bun
    hair_color: str
    headwear: str  # none, cap, beanie, hat
    headwear_color: str
    eyewear: str  # none, glasses, sunglasses
    beard: str  # none, beard
    scarf: str  # none, scarf
    scarf_color: str
    top: str  # t-shirt, shirt, sweater, tank top, hoodie, dress
    top_color: str
    top_pattern: str  # plain, striped, checkered, dotted, printed
    outer: str  # none, jacket, coat, vest; worn open over a shirt
    outer_color: str
    bottom: str  # trousers, shorts, skirt; none under a dress
    bottom_color: str
    shoes: str  # sneakers, boots, sandals
    shoes_color: str
    bag: str  # none, backpack, handbag, shoulder bag, messenger bag, suitcase
    bag_color: str
    item: str  # none, umbrella, bottle, book, ball, shopping bag
    item_color: str


# Values a near-twin may exchange. Absent things stay absent (a bag that appears would
# bring a colour with it: two attributes), and skin is left alone, as no caption tells it.
_CLOTH = tuple(COLORS)
EXCHANGES = {
    "gender": ("man", "woman"),
    "hair_style": ("short", "medium", "long", "ponytail", "bun"),
    "hair_color": tuple(HAIR_COLORS),
    "headwear": ("cap", "beanie", "hat"),
    "headwear_color": _CLOTH,
    "eyewear": (NONE, "glasses", "sunglasses"),
    "scarf_color": _CLOTH,
    "top": ("t-shirt", "shirt", "sweater", "tank top", "hoodie"),
    "top_color": _CLOTH,
    "top_pattern": ("plain", "striped", "checkered", "dotted"),
    "outer": ("jacket", "coat", "vest"),
    "outer_color": _CLOTH,
    "bottom": ("trousers", "shorts"),
    "bottom_color": _CLOTH,
    "shoes": ("sneakers", "boots", "sandals"),
    "shoes_color": _CLOTH,
    "bag": ("backpack", "handbag", "shoulder bag", "messenger bag", "suitcase"),
    "bag_color": _CLOTH,
    "item": ("umbrella", "bottle", "book", "ball", "shopping bag"),
    "item_color": _CLOTH,
}


def _pick(rng: np.random.Generator, table: dict[str, float]) -> str:
    """Draws a key of `table` (value -> probability, summing to 1)."""
    threshold = rng.random()
    for value, probability in table.items():
        threshold -= probability
        if threshold < 0:
            return value
    return value


def _kind_and_color(rng: np.random.Generator, table: dict[str, float]) -> tuple[str, str]:
    kind = _pick(rng, table)
    color = _CLOTH[int(rng.integers(len(_CLOTH)))]
    return kind, NONE if kind == NONE else color


def sample_identity(rng: np.random.Generator) -> Identity:
    """Draws a person whose attributes go together (no bun under a hat, no bare dress)."""
    woman = rng.random() < 0.5
    bags = {"backpack": 0.24, "handbag": 0.14, "shoulder bag": 0.12, "messenger bag": 0.14}
    bag = _kind_and_color(rng, bags | {"suitcase": 0.1, NONE: 0.26})
    items = {"umbrella": 0.12, "bottle": 0.1, "book": 0.12, "ball": 0.1, "shopping bag": 0.12}
    item = _kind_and_color(rng, items | {NONE: 0.44})
    skin = _pick(rng, {"light": 0.45, "medium": 0.3, "dark": 0.25})
    head, clothes = _sample_head(rng, woman), _sample_clothes(rng, woman)
    gender = "woman" if woman else "man"
    return Identity._make((gender, skin, *head, *clothes, *bag, *item))


def _sample_head(rng: np.random.Generator, woman: bool) -> tuple[str, ...]:
    """hair_style to scarf_color, as `Identity` has them."""
    headwear = _kind_and_color(rng, {NONE: 0.56, "cap": 0.16, "beanie": 0.14, "hat": 0.14})
    styles = {"short": 0.62, "bald": 0.16, "medium": 0.12, "long": 0.1}
    if woman:
        styles = {"long": 0.34, "medium": 0.22, "ponytail": 0.2, "bun": 0.14, "short": 0.1}
    hair_style = _pick(rng, styles)
    if headwear[0] != NONE and hair_style in ("bald", "bun"):
        hair_style = "ponytail" if woman else "short"
    hair_colors = {"black": 0.28, "brown": 0.24, "blond": 0.2, "red": 0.14, "gray": 0.14}
    hair_color = _pick(rng, hair_colors)
    scarf = _kind_and_color(rng, {NONE: 0.82, "scarf": 0.18})
    eyewear = _pick(rng, {NONE: 0.5, "glasses": 0.28, "sunglasses": 0.22})
    beard = "beard" if not woman and rng.random() < 0.35 else NONE
    hair_color = NONE if hair_style == "bald" else hair_color
    return hair_style, hair_color, *headwear, eyewear, beard, *scarf


def _sample_clothes(rng: np.random.Generator, woman: bool) -> tuple[str, ...]:
    """Top to shoes_color, as `Identity` has them."""
    outer = _kind_and_color(rng, {NONE: 0.6, "jacket": 0.16, "coat": 0.12, "vest": 0.12})
    tops = {"t-shirt": 0.28, "shirt": 0.18, "sweater": 0.2, "hoodie": 0.16, "tank top": 0.1}
    top, top_color = _kind_and_color(rng, tops | {"dress": 0.08})
    if top == "dress" and not woman:
        top = "t-shirt"
    patterns = {"plain": 0.52, "striped": 0.16, "checkered": 0.12, "dotted": 0.1, "printed": 0.1}
    top_pattern = _pick(rng, patterns)
    if outer[0] != NONE:  # worn open: only a strip of the top shows, too little to tell its kind
        top, top_pattern = "shirt", "plain"
    bottoms = {"trousers": 0.47, "shorts": 0.23, "skirt": 0.3}
    if not woman:
        bottoms = {"trousers": 0.68, "shorts": 0.32}
    bottom = _kind_and_color(rng, bottoms)
    if top == "dress":
        bottom = NONE, NONE
    shoes = _kind_and_color(rng, {"sneakers": 0.45, "boots": 0.35, "sandals": 0.2})
    return top, top_color, top_pattern, *outer, *bottom, *shoes


def is_valid(identity: Identity) -> bool:
    """Whether the attributes of a changed identity still go together and can be seen."""
    covered = identity.headwear != NONE
    if covered and identity.hair_style in ("bald", "bun"):
        return False
    if identity.outer != NONE and (identity.top != "shirt" or identity.top_pattern != "plain"):
        return False
    if identity.gender == "man":
        womens = identity.hair_style in ("ponytail", "bun") or identity.bottom == "skirt"
        return not womens and identity.top != "dress"
    return identity.beard == NONE and identity.hair_style != "bald"


def sample_twin(rng: np.random.Generator, identity: Identity) -> Identity:
    """Draws a valid person who differs from `identity` in exactly one attribute."""
    fields = tuple(EXCHANGES)
    while True:
        field = fields[int(rng.integers(len(fields)))]
        values = EXCHANGES[field]
        if getattr(identity, field) not in values:
            continue
        value = values[int(rng.integers(len(values)))]
        twin = identity._replace(**{field: value})
        if twin != identity and is_valid(twin):
            return twin


def bucket(identity: Identity, buckets: int) -> int:
    """Returns a fixed pseudo-random number in [0, buckets) of the attributes.

    Every split of every variant owns some buckets, so that no two of them can share
    a person, whatever their seeds and sizes, without comparing lists.
    """
    digest = hashlib.blake2b("|".join(identity).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") % buckets
