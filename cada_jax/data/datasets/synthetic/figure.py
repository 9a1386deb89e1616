"""One person in one pose: paint and the points where limbs bend."""

from dataclasses import dataclass
from typing import Any

from cada_jax.data.datasets.synthetic.camera import FRONT, SIDE, Shot
from cada_jax.data.datasets.synthetic.identity import NONE, Identity
from cada_jax.data.datasets.synthetic.painter import Painter, Point

_RAISED = ("bottle", "book", "ball")  # held up in front of or beside the body


@dataclass(frozen=True)
class Figure:
    """What the drawing functions share. In a side view u > 0 is ahead of the person."""

    who: Identity
    shot: Shot
    painter: Painter
    paint: dict[str, Any]  # Color by garment, "hair" and "skin"; None where absent
    head: float = 1.16  # how much larger than life it is drawn

    @property
    def head_painter(self) -> Painter:
        """Draws heads, hair and headwear larger than life: they carry many attributes."""
        return self.painter.enlarged(self.head, 0.19)

    @property
    def front(self) -> bool:
        """Whether the person faces the camera."""
        return self.shot.view == FRONT

    @property
    def side(self) -> bool:
        """Whether the person is seen from the side."""
        return self.shot.view == SIDE

    @property
    def shoulder(self) -> float:
        """Half of the width at the shoulders; in a side view of the depth of the chest."""
        if self.side:
            return 0.082
        return 0.128 if self.who.gender == "man" else 0.106

    def profile(self, top: float, hem: float, wider: float = 0.0) -> list[Point]:
        """Returns (half width, v) of the trunk from `top` to `hem`, clothes included."""
        woman = self.who.gender == "woman"
        if self.side:
            knots = [(0.06, 0.2), (0.088, 0.3), (0.07 if woman else 0.08, 0.43), (0.086, 0.55)]
        else:
            sh = self.shoulder
            waist = 0.074 if woman else 0.104
            knots = [(sh, 0.213), (sh * 0.96, 0.3), (waist, 0.43), (0.108, 0.55)]
        points = [(half + wider, v) for half, v in knots if top <= v < hem]
        before = [knot for knot in knots if knot[1] < hem][-1]
        after = [knot for knot in knots if knot[1] >= hem]
        if after:
            share = (hem - before[1]) / (after[0][1] - before[1])
            half = before[0] + share * (after[0][0] - before[0])
        else:  # below the hips cloth falls straight and a little outwards
            half = before[0] + 0.16 * (hem - before[1])
        return [*points, (half + wider, hem)]

    def arm(self, side: int) -> tuple[Point, Point, Point]:
        """Returns shoulder, elbow and hand of the arm on a side of the image (+1 right)."""
        swing, sh = self.shot.swing * side, self.shoulder
        shoulder = (side * (sh - 0.022), 0.236)
        if side == -self.shot.left and self.who.item in _RAISED:
            hand = (side * (sh + 0.088), 0.375 + 0.02 * swing)
            return shoulder, (side * (sh + 0.045), 0.37), hand
        elbow = (side * (sh + 0.028 + 0.012 * swing), 0.37)
        if side == self.shot.left and self.who.bag == "suitcase":
            return shoulder, elbow, (side * 0.2, 0.5)
        return shoulder, elbow, (side * (sh + 0.045), 0.5 - 0.02 * swing)

    def side_arm(self, near: bool) -> tuple[Point, Point, Point]:
        """Returns shoulder, elbow and hand in a side view."""
        swing = self.shot.swing if near else -self.shot.swing
        shoulder = (-0.005, 0.242)
        left = near == self.shot.bag_is_near
        if not left and self.who.item in _RAISED:
            return shoulder, (-0.005, 0.38), (0.135, 0.385)
        if left and self.who.bag == "suitcase":
            return shoulder, (-0.055, 0.37), (-0.14, 0.49)
        if self.carries(left):
            swing = 0.3 * swing
        return shoulder, (0.06 * swing - 0.03, 0.375), (0.13 * swing + 0.02, 0.5)

    def carries(self, left: bool) -> bool:
        """Whether something hangs from the left or the right hand."""
        return self.who.bag == "handbag" if left else self.who.item != NONE
