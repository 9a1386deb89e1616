"""Draws bags, carried by the left hand or on the back, and objects in the right hand."""

from cada_jax.data.datasets.synthetic.figure import Figure
from cada_jax.data.datasets.synthetic.painter import contrast, shade

_METAL = (70, 72, 78)


def bag_behind(f: Figure) -> None:
    """Draws what a backpack shows beside the trunk, from the front and from the side."""
    if f.who.bag != "backpack":
        return
    p, color = f.painter, f.paint["bag"]
    if f.front:
        half = f.shoulder + 0.012
        p.band(-half, 0.215, half, 0.45, shade(color, 0.8))
    elif f.side:
        p.limb(((-0.135, 0.27), (-0.14, 0.44)), (0.068, 0.074), color)
        p.band(-0.21, 0.37, -0.17, 0.49, shade(color, 0.75))


def bag(f: Figure) -> None:
    """Draws the bag of a front or back view."""
    p, color, kind, side = f.painter, f.paint["bag"], f.who.bag, f.shot.left
    if color is None:
        return
    dark = shade(color, 0.7)
    hand = f.arm(side)[2]
    if kind == "backpack" and f.front:
        for s in (-1, 1):
            p.line(((s * 0.07, 0.198), (s * 0.078, 0.3), (s * 0.086, 0.43)), color, 0.046)
            p.line(((s * 0.05, 0.21), (s * 0.056, 0.3), (s * 0.064, 0.43)), dark, 0.009)
    elif kind == "backpack":
        half = 0.1
        p.ring(0.0, 0.225, 0.03, 0.03, dark, 0.014)
        p.dome(0.0, 0.29, half, 0.075, color)
        p.band(-half, 0.285, half, 0.5, color)
        p.band(-half * 0.75, 0.39, half * 0.75, 0.48, dark)
        p.line(((-half * 0.8, 0.31), (half * 0.8, 0.31)), dark, 0.01)
    elif kind == "handbag":
        _handbag(f, hand)
    elif kind == "shoulder bag":
        u = side * (f.shoulder + 0.05)
        p.line(((side * 0.085, 0.2), (u, 0.4)), color, 0.03)
        _pouch(f, u, 0.38)
    elif kind == "messenger bag":
        u = side * 0.115
        p.line(((-side * 0.085, 0.2), (u, 0.47)), color, 0.036)
        _satchel(f, u, 0.46)
    else:
        _suitcase(f, side * 0.225, hand)


def side_bag(f: Figure, near: bool) -> None:
    """Draws the bag of a side view."""
    p, color, kind = f.painter, f.paint["bag"], f.who.bag
    if color is None or kind == "backpack":
        return
    hand = f.side_arm(near)[2]
    if kind == "suitcase":
        _suitcase(f, -0.21, hand)
    elif kind == "handbag":
        _handbag(f, hand)
    elif near and kind == "shoulder bag":
        p.line(((-0.015, 0.2), (-0.035, 0.4)), color, 0.032)
        _pouch(f, -0.035, 0.38)
    elif near:
        p.line(((0.05, 0.22), (0.0, 0.47)), color, 0.036)
        _satchel(f, -0.02, 0.46)


def side_straps(f: Figure) -> None:
    """Draws the strap of a backpack around the near shoulder."""
    if f.who.bag == "backpack":
        path = ((-0.05, 0.215), (0.03, 0.215), (0.05, 0.3), (-0.01, 0.4), (-0.07, 0.42))
        f.painter.line(path, shade(f.paint["bag"], 0.85), 0.036)


def _handbag(f: Figure, hand: tuple[float, float]) -> None:
    p, color, (u, v) = f.painter, f.paint["bag"], hand
    p.ring(u, v + 0.04, 0.038, 0.045, shade(color, 0.75), 0.018)
    top, low = v + 0.055, v + 0.16
    p.poly(((u - 0.055, top), (u + 0.055, top), (u + 0.075, low), (u - 0.075, low)), color)
    p.band(u - 0.06, top, u + 0.06, top + 0.022, shade(color, 0.7))
    p.disc(u, top + 0.025, 0.012, 0.012, (236, 206, 120))


def _pouch(f: Figure, u: float, v: float) -> None:
    p, color = f.painter, f.paint["bag"]
    p.dome(u, v + 0.035, 0.062, 0.035, color)
    p.bowl(u, v + 0.03, 0.066, 0.095, color)
    p.line(((u - 0.05, v + 0.035), (u + 0.05, v + 0.035)), shade(color, 0.65), 0.012)


def _satchel(f: Figure, u: float, v: float) -> None:
    p, color = f.painter, f.paint["bag"]
    p.band(u - 0.08, v, u + 0.08, v + 0.125, color)
    p.band(u - 0.08, v, u + 0.08, v + 0.065, shade(color, 0.8))
    for s in (-1, 1):
        p.band(u + s * 0.04 - 0.008, v + 0.045, u + s * 0.04 + 0.008, v + 0.085, (226, 214, 180))


def _suitcase(f: Figure, u: float, hand: tuple[float, float]) -> None:
    p, color = f.painter, f.paint["bag"]
    for s in (-1, 1):
        p.line(((hand[0] + s * 0.012, hand[1]), (u + s * 0.03, 0.68)), _METAL, 0.011)
    p.band(u - 0.066, 0.66, u + 0.066, 0.965, color)
    for s in (-0.032, 0.0, 0.032):
        p.line(((u + s, 0.68), (u + s, 0.945)), shade(color, 0.75), 0.01)
    for s in (-1, 1):
        p.disc(u + s * 0.05, 0.98, 0.016, 0.018, (36, 36, 40))


def item(f: Figure) -> None:
    """Draws the object in the right hand, in a front or back view."""
    if f.paint["item"] is not None:
        side = -f.shot.left
        _item(f, f.arm(side)[2], side)


def side_item(f: Figure, near: bool) -> None:
    """Draws the object in the right hand, in a side view."""
    if f.paint["item"] is not None:
        _item(f, f.side_arm(near)[2], 1)


def _item(f: Figure, hand: tuple[float, float], side: int) -> None:
    p, color, kind, (u, v) = f.painter, f.paint["item"], f.who.item, hand
    dark = shade(color, 0.7)
    if kind == "umbrella":
        tip = u + side * 0.03
        p.line(((u - 0.004, v - 0.05), (tip, 0.9)), _METAL, 0.012)
        p.ring(u + side * 0.014, v - 0.05, 0.02, 0.02, _METAL, 0.012)
        path = ((u, v + 0.03), (u + side * 0.012, 0.64), (tip, 0.86))
        p.limb(path, (0.016, 0.04, 0.01), color)
        p.line(((u, v + 0.04), (tip, 0.84)), dark, 0.012)
    elif kind == "bottle":
        p.band(u - 0.03, v - 0.1, u + 0.03, v + 0.045, color)
        p.band(u - 0.014, v - 0.135, u + 0.014, v - 0.1, color)
        p.band(u - 0.018, v - 0.15, u + 0.018, v - 0.128, dark)
        p.band(u - 0.03, v - 0.06, u + 0.03, v - 0.02, contrast(color))
    elif kind == "book":
        p.band(u - 0.058, v - 0.1, u + 0.058, v + 0.045, color)
        p.band(u + 0.04, v - 0.093, u + 0.058, v + 0.04, (250, 248, 240))
        p.band(u - 0.04, v - 0.075, u + 0.025, v - 0.045, contrast(color))
    elif kind == "ball":
        p.disc(u, v - 0.045, 0.064, 0.064, color)
        seam = contrast(color)
        p.line(((u - 0.06, v - 0.06), (u, v - 0.035), (u + 0.06, v - 0.06)), seam, 0.011)
        p.line(((u - 0.02, v - 0.1), (u + 0.005, v - 0.045), (u - 0.012, v + 0.014)), seam, 0.011)
    else:  # shopping bag
        p.ring(u, v + 0.03, 0.03, 0.04, dark, 0.012)
        p.band(u - 0.07, v + 0.05, u + 0.07, v + 0.22, color)
        p.poly(((u + 0.04, v + 0.05), (u + 0.07, v + 0.05), (u + 0.07, v + 0.22)), dark)
        p.band(u - 0.035, v + 0.1, u + 0.035, v + 0.165, contrast(color))
    p.disc(u, v, 0.026, 0.024, f.paint["skin"])
