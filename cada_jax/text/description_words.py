"""Words of descriptions of people that a lexicon of general English takes for something else.

In general English "strap" is mostly a verb, "navy" a noun and "top" an adjective. In a description
of a person they are not.
"""

# Penn Treebank tags that hold wherever the word stands.
_WORDS = {
    "JJ": (
        # Colors, patterns and cloth: "navy and white", "her bag is silver".
        "navy cream gold silver burgundy charcoal lime peach mustard rust rose mint teal violet "
        "lilac khaki tan olive turquoise lavender maroon beige coral ivory plum salmon magenta "
        "indigo crimson scarlet aqua cyan gray grey light dark neon plaid floral knit capri "
        "sleeveless camo camouflage left right"
    ),
    # Garments and parts that look like verbs, adjectives or adverbs.
    "NN": (
        "strap trim tote wrap watch top slip stop stick stroller hoodie ponytail denim pull "
        "pullover tee handbag turtleneck spaghetti"
    ),
    "NNS": "flops trims flats heels slacks tights bangs capris dreadlocks",
    # Amounts are no attributes, and pronouns neither.
    "DT": "several many few some various such more most much other another both",
    "PRP": (
        "something someone somebody anything anyone anybody nothing nobody none everything "
        "everyone everybody"
    ),
    "IN": "past next",
    # Verbs that the lexicon does not know.
    "VBZ": "dons wears carries",
    "VBG": "waring",
    "MD": "isn aren wasn weren don doesn didn hasn haven hadn couldn wouldn",
}
TAGS = {word: tag for tag, words in _WORDS.items() for word in words.split()}

# Parts whose participle is an adjective: hooded, dark haired. Nobody sleeves a shirt.
PARTS = frozenset(
    "sleeve hair hood collar brim heel toe rim frame sole color colour stripe dot pattern checker "
    "flower tone skin beard freckle leg waist neck lace age eye fringe tassel trim line".split()
)
# Things that an adjective behind them does not describe. Other nouns may have one behind them:
# "knee length black skirt", "cotton white shirt".
THINGS = frozenset(
    "man woman person boy girl lady gentleman guy child pedestrian hair beard shirt t-shirt jacket "
    "coat sweater sweatshirt hoodie blouse top skirt dress suit vest cardigan scarf hat cap bag "
    "purse backpack handbag suitcase umbrella belt watch tie phone".split()
)
PERSONS = frozenset("man woman person boy girl lady gentleman guy child pedestrian".split())
MEASURES = (
    "pair pairs couple kind kinds type types sort bunch bit lot lots set piece pieces stack bundle "
    "number"
).split()
# A noun that makes a preposition between one and "of": in front of, on top of.
PLACES = ("front", "top")
# Their noun is an object: in "black carrying flowers" no flowers are carrying.
TRANSITIVE = frozenset(
    "wearing waring carrying holding having using pushing pulling showing sporting reading eating "
    "drinking facing following crossing entering touching displaying".split()
)
BEFORE_GERUNDS = frozenset({"while", "by", "after", "without"})
# Nouns elsewhere, verbs behind a person: he sports a beard.
VERBS = "sports heads steps stands rests poses models hands watches reach".split()
# With a particle they are one adjective before a noun: button up shirt, rolled up sleeves.
PHRASAL = "button zip lace slip pull cut".split()
PARTICLES = ("up", "down", "off", "back", "on", "over")
