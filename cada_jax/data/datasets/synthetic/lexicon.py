"""The words of the captions: for every value of an attribute, ways to say it.

`{c}` stands where a colour (or, for hair, colour and length) goes.
"""

COLOR_WORDS = {
    "black": ("black", "black", "jet black"),
    "white": ("white", "white", "snow white"),
    "gray": ("gray", "grey", "ash gray"),
    "red": ("red", "red", "scarlet", "crimson"),
    "orange": ("orange", "orange", "tangerine"),
    "yellow": ("yellow", "yellow", "lemon yellow", "golden"),
    "green": ("green", "green", "emerald"),
    "blue": ("blue", "blue", "navy", "royal blue"),
    "turquoise": ("turquoise", "teal", "cyan", "turquoise"),
    "pink": ("pink", "pink", "hot pink"),
    "purple": ("purple", "purple", "violet"),
    "brown": ("brown", "brown", "chocolate"),
}
HAIR_COLOR_WORDS = {
    "black": ("black", "dark"),
    "brown": ("brown", "brunette"),
    "blond": ("blond", "blonde", "fair"),
    "red": ("red", "ginger"),
    "gray": ("gray", "grey", "silver"),
}
SUBJECTS = {
    "man": ("man", "man", "male", "guy", "gentleman"),
    "woman": ("woman", "woman", "female", "lady"),
    None: ("person", "pedestrian", "figure"),
}
PRONOUNS = {"man": "he", "woman": "she", None: "the person"}

HAIR_STYLE_WORDS = {
    "bald": ("a bald head", "a shaved head", "no hair"),
    "short": ("short {c} hair", "short cropped {c} hair", "{c} hair cut short"),
    "medium": ("shoulder length {c} hair", "chin length {c} hair", "a {c} bob"),
    "long": ("long {c} hair", "long flowing {c} hair", "{c} hair that is long"),
    "ponytail": ("a {c} ponytail", "{c} hair in a ponytail", "{c} hair tied in a ponytail"),
    "bun": ("a {c} bun", "{c} hair in a bun", "{c} hair up in a bun"),
}
PATTERN_WORDS = {  # (before the noun, after the noun)
    "plain": (("plain", "solid"), ()),
    "striped": (("striped",), ("with stripes", "with horizontal stripes")),
    "checkered": (("checkered", "checked"), ("with a checkered pattern", "with checks")),
    "dotted": (("dotted", "polka dot"), ("with dots", "with polka dots")),
    "printed": (("printed",), ("with a print", "with a print on the chest")),
}

# Nouns with their article; the colour goes in front of the noun.
KIND_WORDS = {
    "headwear": {
        "cap": ("a {c} cap", "a {c} baseball cap"),
        "beanie": ("a {c} beanie", "a {c} knitted beanie", "a {c} bobble hat"),
        "hat": ("a {c} hat", "a {c} brimmed hat", "a {c} sun hat"),
    },
    "eyewear": {
        "glasses": ("glasses", "spectacles", "eyeglasses"),
        "sunglasses": ("sunglasses", "shades", "dark sunglasses"),
    },
    "beard": {"beard": ("a beard", "a full beard", "facial hair")},
    "scarf": {"scarf": ("a {c} scarf", "a {c} shawl")},
    "top": {
        "t-shirt": ("a {c} t-shirt", "a {c} tee", "a {c} short sleeved shirt"),
        "shirt": ("a {c} long sleeved shirt", "a {c} collared shirt", "a {c} button up shirt"),
        "sweater": ("a {c} sweater", "a {c} pullover", "a {c} jumper"),
        "tank top": ("a {c} tank top", "a {c} sleeveless top", "a {c} singlet"),
        "hoodie": ("a {c} hoodie", "a {c} hooded sweatshirt"),
        "dress": ("a {c} dress", "a {c} frock"),
        None: ("a {c} top", "{c} clothes on the upper body"),
        "under": ("a {c} shirt", "a {c} top"),  # what a strip under an open jacket shows
    },
    "outer": {
        "jacket": ("a {c} jacket", "a {c} windbreaker"),
        "coat": ("a {c} coat", "a long {c} coat", "a {c} overcoat"),
        "vest": ("a {c} vest", "a {c} padded vest", "a {c} waistcoat"),
    },
    "bottom": {
        "trousers": ("{c} trousers", "{c} pants", "{c} slacks"),
        "shorts": ("{c} shorts", "{c} short pants"),
        "skirt": ("a {c} skirt",),
        None: ("{c} bottoms",),
    },
    "shoes": {
        "sneakers": ("{c} sneakers", "{c} trainers", "{c} running shoes"),
        "boots": ("{c} boots", "high {c} boots"),
        "sandals": ("{c} sandals", "open {c} sandals"),
        None: ("{c} shoes", "{c} footwear"),
    },
    "bag": {
        "backpack": ("a {c} backpack", "a {c} rucksack", "a {c} backpack on the back"),
        "backpack straps": (  # what shows of it from the front
            "a {c} backpack with both straps in front",
            "a {c} backpack on both shoulders",
            "a {c} rucksack with two straps",
        ),
        "handbag": ("a {c} handbag", "a {c} purse", "a {c} handbag in one hand"),
        "shoulder bag": ("a {c} shoulder bag", "a {c} bag on one shoulder"),
        "messenger bag": ("a {c} messenger bag", "a {c} crossbody bag"),
        "suitcase": ("a {c} suitcase", "a {c} trolley case", "a {c} suitcase on wheels"),
        None: ("a {c} bag",),
    },
    "item": {
        "umbrella": ("a {c} umbrella", "a closed {c} umbrella"),
        "bottle": ("a {c} bottle", "a {c} water bottle"),
        "book": ("a {c} book", "a {c} notebook"),
        "ball": ("a {c} ball", "a round {c} ball"),
        "shopping bag": ("a {c} shopping bag", "a {c} paper bag"),
        None: ("a {c} object in one hand", "something {c} in one hand"),
    },
}

WEARS = ("is wearing", "wears", "is dressed in", "has on")
HAS = ("has", "is seen with")
CARRIES = ("carries", "is carrying", "has")
OPENINGS = ("",) * 10 + ("in this picture", "in the image", "we see that")
MOVES = {True: ("is walking", "is walking along"), False: ("is standing", "is standing still")}
PLACES = ("outdoors", "in the street", "in front of the camera", "in a public place")

# Words of asides that the vocabulary has not whole: how many WordPieces they are.
PIECES = {"without": 4, "darker": 3, "lighter": 7, "than": 4}
