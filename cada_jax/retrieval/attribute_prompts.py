"""What the attribute decoder is asked about a picture, and the words that it may answer with.

The decoder may be causal (`config.ara.causal`): a masked word then sees only what stands left of
it. So a prompt names the other garments first, and what is left to say is the garment in question.
The noun behind [MASK] helps a decoder that sees both sides and does no harm to a causal one. An
answer stands for all its words; those that the vocabulary lacks are left out.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """One question.

    name: of what is read; prompts: each with [MASK] where the answer belongs, the last one counts;
    answers: label -> words that mean it, single entries of the vocabulary.
    """

    name: str
    prompts: Sequence[str]
    answers: Mapping[str, Sequence[str]]


COLORS = {
    "black": ("black",),
    "white": ("white",),
    "grey": ("grey", "gray"),
    "red": ("red", "crimson", "scarlet", "maroon"),
    "orange": ("orange", "tangerine"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald", "olive"),
    "blue": ("blue", "navy"),
    "turquoise": ("turquoise", "teal", "cyan"),
    "pink": ("pink",),
    "purple": ("purple", "violet"),
    "brown": ("brown", "chocolate"),
    "beige": ("beige", "khaki", "cream"),
}
HAIR = {
    "black": ("black", "dark"),
    "brown": ("brown", "brunette"),
    "blond": ("blond", "blonde", "fair"),
    "red": ("red", "ginger"),
    "grey": ("grey", "gray", "silver"),
}

PARTS = (
    Part(
        "appears as",
        ("a [MASK] wearing", "the [MASK] is wearing"),
        {
            "man": ("man", "male", "guy", "gentleman"),
            "woman": ("woman", "female", "lady"),
        },
    ),
    Part(
        "hair",
        ("a person with [MASK] hair", "the person with short [MASK] hair"),
        HAIR,
    ),
    Part(
        "top",
        (
            "a person is wearing trousers, boots, a hat and a [MASK] top",
            "the person wears shorts, sneakers, glasses and a [MASK] shirt",
        ),
        COLORS,
    ),
    Part(
        "bottom",
        (
            "a person wearing shoes, a top and [MASK] pants",
            "the person wears a hat, a top, boots and [MASK] pants",
            "the person wears a jacket, a top, boots and [MASK] bottoms",
        ),
        COLORS,
    ),
    Part(
        "shoes",
        (
            "a person wearing a top, pants and [MASK] shoes",
            "a person is wearing a shirt, trousers and [MASK] shoes",
            "the person wears a hat, a top, pants and [MASK] shoes",
        ),
        COLORS,
    ),
    Part(
        "upper garment",
        ("a person wearing a [MASK] [MASK]", "a person is wearing a [MASK] [MASK]"),
        {
            "t-shirt": ("t", "tee"),
            "shirt": ("shirt", "collared", "blouse"),
            "sweater": ("sweater", "pullover", "jumper"),
            "tank top": ("tank", "singlet", "sleeveless"),
            "hoodie": ("hoodie", "hooded", "sweatshirt"),
            "dress": ("dress", "frock"),
            "jacket": ("jacket", "windbreaker"),
            "coat": ("coat", "overcoat"),
            "vest": ("vest", "waistcoat"),
        },
    ),
    Part(
        "lower garment",
        ("a person wearing [MASK] [MASK]", "a person wearing a top and [MASK] [MASK]"),
        {
            "trousers": ("trousers", "pants", "slacks", "jeans"),
            "shorts": ("shorts", "short"),
            "skirt": ("skirt",),
        },
    ),
    Part(
        "footwear",
        ("a person wearing [MASK] [MASK]", "a person wearing a top and [MASK] [MASK]"),
        {
            "sneakers": ("sneakers", "trainers", "running"),
            "boots": ("boots",),
            "sandals": ("sandals",),
        },
    ),
    Part(
        "carries",
        ("a person carries a [MASK] [MASK]", "a person is carrying a [MASK] [MASK]"),
        {
            "backpack": ("backpack", "rucksack"),
            "handbag": ("handbag", "purse"),
            "shoulder bag": ("shoulder",),
            "messenger bag": ("messenger", "crossbody"),
            "suitcase": ("suitcase", "trolley"),
            "umbrella": ("umbrella",),
            "bottle": ("bottle",),
            "book": ("book", "notebook"),
            "ball": ("ball",),
            "shopping bag": ("shopping",),
        },
    ),
)
