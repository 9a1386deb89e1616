"""Worlds of generated people: how they are painted and drawn, and how they speak.

The demo plays at `HOME`. `ABROAD` is to it what the photographs and texts of the web are to a
pedestrian benchmark: people with garments and colours, drawn and described otherwise. A model that
was pretrained there knows what clothes are, and has to learn how they look and are called here.
"""

from collections.abc import Mapping
from typing import NamedTuple

from cada_jax.data.datasets.synthetic.camera import USUAL, Cameras
from cada_jax.data.datasets.synthetic.identity import COLORS, HAIR_COLORS, SKINS, Identity
from cada_jax.data.datasets.synthetic.painter import Color
from cada_jax.data.datasets.synthetic.speech import HOME_SPEECH, Speech, without_words


class Look(NamedTuple):
    """How people and places are painted.

    Attributes:
      colors, hair_colors, skins: RGB of their names, 0 to 255.
      walls, grounds, leaves: RGB of what stands behind people.
      ink: colour of outlines; None: without.
      build: width of a person over that at home.
      head: how much larger than life heads are drawn.
      cast: gain of red, green and blue of the cameras.
      contrast: of the cameras, 1 as painted.
      clutter: number of coloured boxes in the background.
      resolution: of the cameras, over that of the image, in (0, 1].
    """

    colors: Mapping[str, Color] = COLORS
    hair_colors: Mapping[str, Color] = HAIR_COLORS
    skins: Mapping[str, Color] = SKINS
    walls: tuple[Color, ...] = (
        (150, 148, 142),
        (168, 162, 150),
        (134, 142, 150),
        (178, 178, 176),
        (146, 132, 122),
    )
    grounds: tuple[Color, ...] = (
        (122, 122, 120),
        (146, 140, 130),
        (104, 108, 112),
        (158, 156, 150),
        (112, 118, 104),
    )
    leaves: tuple[Color, ...] = ((98, 112, 88), (112, 124, 98), (88, 100, 84))
    ink: Color | None = None
    build: float = 1.0
    head: float = 1.16
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    clutter: int = 0
    resolution: float = 1.0


class World(NamedTuple):
    """A look, a speech, cameras, and the values of attributes that nobody there has."""

    name: str
    look: Look = Look()
    cameras: Cameras = USUAL
    speech: Speech = HOME_SPEECH
    never: Mapping[str, tuple[str, ...]] = {}

    def has(self, identity: Identity) -> bool:
        """Whether somebody like that may live there."""
        return all(getattr(identity, field) not in values for field, values in self.never.items())


HOME = World("home")
# Where many people look alike: see `bound_twins` for how they differ.
CROWD = World(
    "crowd",
    Look(resolution=0.75, clutter=2),
    Cameras(cropped=0.14, low=0.16, occluded=0.3, darkest=0.72, span=0.46, warm=0.1, sharp=0.4),
    HOME_SPEECH._replace(notes=0.15, negations=0.3, relations=0.2, omit_kind=0.2, omit_color=0.25),
)

# Words of the captions at home that nobody abroad says: about half of the nouns and colours.
UNKNOWN_ABROAD = frozenset(
    "man woman pedestrian blue purple red grey golden lemon emerald jet snow ash chocolate "
    "brunette fair silver trousers sneakers trainers backpack jacket sweater jumper tee hoodie "
    "glasses eyeglasses shades scarf overcoat waistcoat handbag book shopping pants cropped "
    "checkered".split()
)
_NO_COLOR = ("turquoise", "pink", "orange")
_COLORED = tuple(f for f in Identity._fields if f.endswith("_color") and f != "hair_color")
ABROAD = World(
    "abroad",
    Look(
        colors=COLORS
        | {
            "black": (62, 58, 74),
            "white": (226, 216, 192),
            "gray": (112, 120, 112),
            "red": (158, 40, 66),
            "yellow": (226, 206, 110),
            "green": (96, 168, 72),
            "blue": (58, 104, 150),
            "purple": (150, 92, 186),
            "brown": (146, 98, 60),
        },
        hair_colors=HAIR_COLORS | {"blond": (206, 164, 84), "red": (150, 50, 30)},
        walls=((196, 120, 96), (120, 170, 196), (206, 186, 110), (150, 120, 176), (118, 160, 120)),
        grounds=((150, 104, 72), (100, 132, 84), (176, 150, 112), (92, 96, 132), (140, 140, 96)),
        leaves=((60, 140, 60), (150, 150, 50), (190, 110, 60)),
        ink=(18, 16, 22),
        build=0.88,
        head=0.98,
        cast=(1.04, 0.98, 0.9),
        contrast=0.82,
        clutter=3,
    ),
    speech=without_words(HOME_SPEECH, UNKNOWN_ABROAD)._replace(notes=0.5),
    never={
        "hair_style": ("bun",),
        "headwear": ("beanie",),
        "top": ("tank top",),
        "top_pattern": ("dotted",),
        "outer": ("vest",),
        "shoes": ("sandals",),
        "bag": ("messenger bag", "suitcase"),
        "item": ("ball",),
        **dict.fromkeys(_COLORED, _NO_COLOR),
    },
)
