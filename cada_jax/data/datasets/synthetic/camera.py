"""How a person is photographed, and which attributes can be seen then."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cada_jax.data.datasets.synthetic.identity import NONE, Identity

FRONT, SIDE, BACK = "front", "side", "back"


@dataclass(frozen=True)
class Shot:
    """Camera, pose and scene of one image. Lengths are fractions of the person's height."""

    view: str  # front, side, back
    facing: int  # of a side view: +1 looks to the right of the image, -1 to the left
    stride: float  # -1..1, how far the legs are apart, and which is in front
    swing: float  # -1..1, of the arms
    scale: float  # height of the person / height of the image
    offset: float  # of the middle of the person from the middle of the image
    top: float  # of the head, below the upper edge of the image
    lean: float  # horizontal shift of the head against the feet
    cropped: bool  # the lower edge cuts the person off below the knees
    occluder: str  # none, low (hides the feet), pole (hides one hand)
    pole_side: int  # of a pole: -1 left, +1 right in the image
    scene: int  # seed of the background
    light: tuple[float, float, float]  # gain of red, green, blue
    gradient: float  # light from the left (< 0) or the right (> 0)
    blur: float  # radius in pixels of the final image
    noise: float  # standard deviation in grey levels
    quality: int  # of the JPEG

    @property
    def left(self) -> int:
        """Side of the image (+1 right) that shows the person's left hand."""
        return {FRONT: 1, BACK: -1, SIDE: 0}[self.view]

    @property
    def bag_is_near(self) -> bool:
        """In a side view: whether the left side, which carries the bag, faces the camera."""
        return self.facing < 0

    @property
    def walking(self) -> bool:
        """Whether the legs are far enough apart for it."""
        return abs(self.stride) > 0.45


class Cameras(NamedTuple):
    """How the cameras of a world take pictures; shares are in [0, 1].

    Attributes:
      cropped: share of images whose lower edge cuts the person off.
      low, occluded: share of the others with something before the feet, before feet or a hand.
      darkest, span: least gain of the light, and how far it goes above.
      warm: how far red and blue go apart.
      sharp, blur: share of images that are not blurred, and the span of the others' radius.
    """

    cropped: float = 0.12
    low: float = 0.13
    occluded: float = 0.22
    darkest: float = 0.84
    span: float = 0.3
    warm: float = 0.06
    sharp: float = 0.6
    blur: float = 0.5


USUAL = Cameras()


def sample_shot(
    rng: np.random.Generator, view: str | None = None, cameras: Cameras = USUAL
) -> Shot:
    """Draws a shot; `view` fixes the view."""
    c = cameras
    u = rng.random(16).tolist()
    if view is None:
        view = FRONT if u[0] < 0.42 else SIDE if u[0] < 0.7 else BACK
    cropped = u[1] < c.cropped
    occluder = NONE
    if not cropped and u[2] < c.occluded:
        occluder = "low" if u[2] < c.low else "pole"
    scale = 1.2 + 0.06 * u[3] if cropped else 0.81 + 0.09 * u[3]
    gain = c.darkest + c.span * u[4]
    warm = c.warm * (2 * u[5] - 1)
    return Shot(
        view=view,
        facing=1 if u[6] < 0.5 else -1,
        stride=2 * u[7] - 1,
        swing=2 * u[8] - 1,
        scale=scale,
        offset=0.05 * (u[9] - 0.5),
        top=0.05 if cropped else 0.045 + (0.945 - scale) * u[10],
        lean=0.05 * (u[11] - 0.5),
        cropped=cropped,
        occluder=occluder,
        pole_side=1 if u[12] < 0.5 else -1,
        scene=int(rng.integers(2**31)),
        light=(gain * (1 + warm), gain, gain * (1 - warm)),
        gradient=0.3 * (u[13] - 0.5),
        blur=0.0 if u[14] < c.sharp else 0.3 + c.blur * (u[14] - c.sharp) / (1 - c.sharp),
        noise=1.0 + 4.0 * u[15],
        quality=int(rng.integers(70, 96)),
    )


def visible(identity: Identity, shot: Shot) -> dict[str, str]:
    """Returns the attributes that this image shows: field of `Identity` -> value.

    A field that is left out cannot be told from the image. Absent things ("none") are
    listed where their absence can be seen, which only the ceiling makes use of.
    """
    front, back, side = (shot.view == v for v in (FRONT, BACK, SIDE))
    seen = {"gender": identity.gender}

    def show(*fields: str) -> None:
        seen.update({field: getattr(identity, field) for field in fields})

    show("headwear", "headwear_color", "scarf", "scarf_color", "outer", "outer_color")
    show("bottom", "bottom_color")
    covered = identity.headwear != NONE
    hair_shows = identity.hair_style in ("medium", "long") or not covered or not front
    if hair_shows:
        show("hair_color")
        if identity.hair_style != "ponytail" or not front:
            show("hair_style")
    if not back:
        show("eyewear", "beard")
    if identity.outer == NONE:
        show("top", "top_color")
        if identity.top_pattern != "printed" or front:
            show("top_pattern")
    elif front or identity.outer == "vest":
        show("top_color")
    if not shot.cropped and shot.occluder != "low":
        show("shoes", "shoes_color")
    if _bag_shows(identity.bag, shot):
        show("bag", "bag_color")
    if _item_shows(shot):
        show("item", "item_color")
    return seen


def _bag_shows(bag: str, shot: Shot) -> bool:
    at_edge = shot.view != SIDE and shot.pole_side == shot.left
    hidden_by_pole = shot.occluder == "pole" and at_edge
    if bag in ("backpack", NONE):
        return bag == "backpack" or not (hidden_by_pole or shot.view == SIDE)
    if bag == "suitcase":
        return shot.occluder == NONE and not shot.cropped
    if shot.view == SIDE:
        return shot.bag_is_near and shot.occluder != "pole"
    if bag == "handbag" and shot.cropped:
        return False  # the closer camera cuts the hands off, too
    return not hidden_by_pole or bag == "messenger bag"


def _item_shows(shot: Shot) -> bool:
    if shot.view == SIDE:
        return not shot.bag_is_near and shot.occluder != "pole"
    return not shot.cropped and (shot.occluder != "pole" or shot.pole_side == shot.left)
