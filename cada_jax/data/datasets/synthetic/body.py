"""Draws trunk, limbs and clothes."""

from cada_jax.data.datasets.synthetic.camera import FRONT
from cada_jax.data.datasets.synthetic.figure import Figure
from cada_jax.data.datasets.synthetic.identity import NONE
from cada_jax.data.datasets.synthetic.painter import Color, Point, contrast, shade

_HEMS = {
    "t-shirt": 0.545,
    "shirt": 0.565,
    "sweater": 0.55,
    "tank top": 0.54,
    "hoodie": 0.57,
    "dress": 0.73,
}
_LONG_SLEEVES = ("shirt", "sweater", "hoodie")


def legs(f: Figure) -> None:
    """Draws legs, trousers or shorts, and shoes, from the front or from behind."""
    stride = f.shot.stride
    order = (-1, 1) if stride > 0 else (1, -1)
    for side in order:
        far = side != order[1]
        lift = 0.022 * abs(stride) if far else 0.0
        foot = side * (0.062 + 0.008 * f.shot.swing)
        points = ((side * 0.053, 0.54), (side * 0.06, 0.74 - lift), (foot, 0.945 - lift))
        _leg(f, points, 0.86 if far else 1.0)
        _shoe(f, foot, -lift, side * 0.012)


def side_legs(f: Figure) -> None:
    """Draws legs and shoes of a side view, the far leg darker."""
    for near in (False, True):
        reach = 0.15 * f.shot.stride * (1 if near else -1)
        foot = reach - 0.005
        lift = 0.018 if reach < -0.06 else 0.0
        points = ((0.0, 0.54), (reach * 0.5 + 0.022, 0.74), (foot, 0.945 - lift))
        _leg(f, points, 1.0 if near else 0.78)
        _shoe(f, foot, -lift, 0.05)
    bottom(f)


def _leg(f: Figure, points: tuple[Point, Point, Point], tone: float) -> None:
    hip, knee, ankle = points
    p, wide = f.painter, 0.008 if f.side else 0.0
    if f.who.bottom != "trousers":
        p.limb(points, (0.045 + wide, 0.038, 0.028), shade(f.paint["skin"], tone))
    if f.who.bottom == "trousers":
        p.limb(points, (0.055 + wide, 0.047, 0.04), shade(f.paint["bottom"], tone))
    elif f.who.bottom == "shorts":
        middle = (hip[0] + 0.75 * (knee[0] - hip[0]), hip[1] + 0.75 * (knee[1] - hip[1]))
        color = shade(f.paint["bottom"], tone)
        p.limb((hip, middle), (0.056 + wide, 0.05 + wide), color)
        left, right = middle[0] - 0.056 - wide, middle[0] + 0.056 + wide
        p.band(left, middle[1] - 0.01, right, middle[1] + 0.035, color)


def _shoe(f: Figure, u: float, dv: float, toe: float) -> None:
    """Draws the shoe of a foot at `u`, lifted by -dv; `toe` is how far it points, by sign."""
    p, color, kind = f.painter, f.paint["shoes"], f.who.shoes
    s = -1 if toe < 0 else 1
    heel, tip, ankle = u - s * 0.04, u + s * (0.04 + abs(toe)), u + s * 0.036
    corners = ((heel, 0.93), (ankle, 0.93), (tip, 0.965), (tip, 1.0), (heel, 1.0))
    outline = [(x, v + dv) for x, v in corners]
    if kind == "sandals":
        p.poly(outline, f.paint["skin"])
        p.band(heel, 0.932 + dv, tip - s * 0.02, 0.953 + dv, color)
        p.band(heel, 0.968 + dv, tip, 1.0 + dv, color)
        return
    if kind == "boots":
        p.limb(((u, 0.84 + dv), (u, 0.95 + dv)), (0.048, 0.045), color)
        p.band(u - 0.05, 0.82 + dv, u + 0.05, 0.845 + dv, shade(color, 0.7))
    p.poly(outline, color)
    sole = shade(color, 0.6) if kind == "boots" else (252, 252, 250)
    if kind == "sneakers" and f.who.shoes_color == "white":
        sole = (150, 152, 156)
    p.band(heel, 0.982 + dv, tip, 1.002 + dv, sole)


def bottom(f: Figure) -> None:
    """Draws the hips of trousers and shorts, or the skirt."""
    color = f.paint["bottom"]
    if color is None:
        return
    p = f.painter
    half = 0.088 if f.side else 0.106
    if f.who.bottom == "skirt":
        flare = 0.125 if f.side else 0.15
        waist = half * 0.8
        p.poly(((-waist, 0.46), (waist, 0.46), (flare, 0.69), (-flare, 0.69)), color)
        dark = shade(color, 0.82)
        for k in (-0.5, 0.0, 0.5):
            p.line(((k * waist, 0.54), (k * flare, 0.685)), dark, 0.009)
    else:
        waist = ((-half * 0.9, 0.47), (half * 0.9, 0.47))
        p.poly((*waist, (half, 0.56), (0.02, 0.61), (-half, 0.56)), color)


def arms(f: Figure) -> None:
    """Draws both arms of a front or back view."""
    for side in (-1, 1):
        _arm(f, f.arm(side), 0.94)


def side_arm(f: Figure, near: bool) -> None:
    """Draws one arm of a side view."""
    _arm(f, f.side_arm(near), 0.88 if near else 0.7)


def _arm(f: Figure, points: tuple[Point, Point, Point], tone: float) -> None:
    p, who = f.painter, f.who
    shoulder, elbow, hand = points
    skin = shade(f.paint["skin"], min(1.0, tone + 0.06))
    sleeve, cloth = who.top in _LONG_SLEEVES, f.paint["top"]
    if who.outer in ("jacket", "coat"):
        sleeve, cloth = True, f.paint["outer"]
    cloth = shade(cloth, tone)
    if sleeve:
        p.disc(*hand, 0.03, 0.03, skin)
        wrist = (hand[0] + 0.15 * (elbow[0] - hand[0]), hand[1] + 0.15 * (elbow[1] - hand[1]))
        p.limb((shoulder, elbow, wrist), (0.046, 0.038, 0.034), cloth)
        if who.top == "sweater" and who.outer == NONE:
            p.disc(*wrist, 0.036, 0.02, shade(cloth, 0.75))
        return
    p.limb(points, (0.036, 0.028, 0.026), skin)
    if who.top != "tank top":
        share = 0.6
        (x, y), (u, v) = shoulder, elbow
        end = x + share * (u - x), y + share * (v - y)
        p.limb((shoulder, end), (0.046, 0.046), cloth)


def torso(f: Figure) -> None:
    """Draws top or dress with its pattern, collar and pockets."""
    who, color = f.who, f.paint["top"]
    profile = f.profile(0.2, _HEMS[who.top])
    if who.top == "dress":
        profile = f.profile(0.2, 0.46) + [(0.118 if f.side else 0.145, _HEMS["dress"])]
    neck = (0.045, 0.19)
    if who.top == "tank top":
        _trunk(f, (neck, *profile), f.paint["skin"])
        chest = profile[0][0]
        profile = [(0.62 * chest, 0.205), (0.7 * chest, 0.26), *profile[1:]]
    _trunk(f, (neck, *profile), color)
    _pattern(f, profile, color)
    _fold(f, profile, color)
    _details(f, profile, color)


def _trunk(f: Figure, outline: tuple[Point, ...], color: Color) -> None:
    left = [(-half, v) for half, v in reversed(outline)]
    f.painter.poly([*outline, *left], color)


def _fold(f: Figure, profile: list[Point], color: Color) -> None:
    """A darker edge away from the light gives the trunk some roundness."""
    side = -1 if f.shot.gradient > 0 else 1
    if f.side:
        side = -1
    outer = [(side * half, v) for half, v in profile[1:]]
    inner = [(side * (half - 0.022), v) for half, v in reversed(profile[1:])]
    f.painter.poly([*outer, *inner], shade(color, 0.84))


def _details(f: Figure, profile: list[Point], color: Color) -> None:
    p, who = f.painter, f.who
    dark = shade(color, 0.72)
    half, hem = profile[-1]
    if who.top == "sweater":
        p.band(-0.052, 0.17, 0.052, 0.205, dark)
        p.band(-half, hem - 0.03, half, hem, dark)
    elif who.top == "hoodie":
        if f.front:
            p.ring(0.0, 0.2, 0.07, 0.035, dark, 0.02)
            p.poly(((-0.05, 0.45), (0.05, 0.45), (0.07, 0.53), (-0.07, 0.53)), dark)
            for side in (-1, 1):
                p.line(((side * 0.022, 0.22), (side * 0.024, 0.29)), (245, 245, 245), 0.012)
        elif f.side:
            p.disc(-0.06, 0.215, 0.05, 0.045, dark)
        else:
            p.bowl(0.0, 0.2, 0.085, 0.1, dark)
        p.band(-half, hem - 0.025, half, hem, dark)
    elif who.top == "shirt" and who.outer == NONE:
        collar = (250, 250, 248) if who.top_color != "white" else (176, 180, 188)
        if f.front:
            p.poly(((-0.06, 0.185), (-0.012, 0.225), (-0.05, 0.245)), collar)
            p.poly(((0.06, 0.185), (0.012, 0.225), (0.05, 0.245)), collar)
            p.line(((0, 0.24), (0, hem)), dark, 0.01)
            for v in (0.29, 0.36, 0.43, 0.5):
                p.disc(0.0, v, 0.011, 0.011, collar)
        else:
            p.band(-0.052, 0.178, 0.052, 0.205, collar)
    elif f.front:
        p.bowl(0.0, 0.192, 0.04, 0.03 if who.top == "t-shirt" else 0.05, f.paint["skin"])
    if who.top == "dress":
        p.band(-profile[-2][0], 0.435, profile[-2][0], 0.46, dark)


def _pattern(f: Figure, profile: list[Point], color: Color) -> None:
    pattern = f.who.top_pattern
    if pattern == "plain":
        return
    p, mark = f.painter, contrast(color)
    if pattern == "printed":
        if f.shot.view == FRONT:
            p.band(-0.06, 0.28, 0.06, 0.4, mark)
            p.disc(0.0, 0.34, 0.038, 0.038, shade(color, 0.9))
        return

    def half(v: float) -> float:
        for (a, va), (b, vb) in zip(profile, profile[1:], strict=False):
            if va <= v <= vb:
                return a + (v - va) / (vb - va) * (b - a)
        return profile[0][0] if v < profile[0][1] else profile[-1][0]

    hem = profile[-1][1]
    step = 0.04
    v, row = 0.235, 0
    while v + step / 2 < hem:
        low = min(v + (0.034 if pattern == "striped" else step), hem)
        a, b = half(v), half(low)
        if pattern == "striped":
            if row % 2 == 0:
                p.poly(((-a, v), (a, v), (b, low), (-b, low)), mark)
        elif pattern == "checkered":
            edge = min(a, b)
            u = -0.2 + step * (row % 2)
            while u < edge:
                if u + step > -edge:
                    p.band(max(u, -edge), v, min(u + step, edge), low, mark)
                u += 2 * step
        else:
            u = -0.18 + 0.03 * (row % 2)
            while u < a - 0.012:
                if u > -a + 0.012:
                    p.disc(u, v + 0.02, 0.0145, 0.0145, mark)
                u += 0.06
        v, row = low, row + 1


def outer(f: Figure) -> None:
    """Draws jacket, coat or vest: open in front, whole from the side and behind."""
    color, kind = f.paint["outer"], f.who.outer
    if color is None:
        return
    p = f.painter
    hem = {"jacket": 0.56, "coat": 0.76, "vest": 0.54}[kind]
    profile = f.profile(0.2, hem, 0.014)
    dark = shade(color, 0.74)
    if not f.front:
        _trunk(f, ((0.05, 0.186), *profile), color)
        _fold(f, profile, color)
        p.band(-0.056, 0.178, 0.056, 0.208, dark)
    else:
        for side in (-1, 1):
            edge = [(side * half, v) for half, v in profile]
            opening = [(side * 0.05, hem), (side * (0.05 - 0.012), 0.3), (side * 0.045, 0.186)]
            p.poly([*edge, *opening], color)
            p.poly(((side * 0.035, 0.186), (side * 0.075, 0.23), (side * 0.045, 0.32)), dark)
        _fold(f, profile, color)
    if kind == "vest":
        for v in (0.28, 0.34, 0.4, 0.46):
            if f.front:
                for side in (-1, 1):
                    p.line(((side * 0.05, v), (side * 0.1, v)), dark, 0.01)
            else:
                p.line(((-0.085, v), (0.085, v)), dark, 0.01)
    elif kind == "jacket":
        half = profile[-1][0]
        if f.front:
            for side in (-1, 1):
                left, right = sorted((side * 0.05, side * half))
                p.band(left, hem - 0.025, right, hem, dark)
        else:
            p.band(-half, hem - 0.025, half, hem, dark)
    elif not f.front:
        p.line(((0.0, 0.6), (0.0, hem)), dark, 0.012)
