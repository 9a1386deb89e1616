"""Draws neck, face, hair, headwear and scarf."""

from cada_jax.data.datasets.synthetic.figure import Figure
from cada_jax.data.datasets.synthetic.identity import NONE
from cada_jax.data.datasets.synthetic.painter import shade

_INK = (24, 22, 26)


def neck(f: Figure) -> None:
    """Draws the neck and the base of the collar."""
    f.painter.band(-0.036, 0.15, 0.036, 0.215, shade(f.paint["skin"], 0.86))


def hair_behind(f: Figure) -> None:
    """Draws the hair that falls behind the face and shoulders of a front view."""
    p, style, color = f.head_painter, f.who.hair_style, shade(f.paint["hair"], 0.85)
    if style == "long":
        p.limb(((0.0, 0.09), (0.0, 0.2), (0.0, 0.25)), (0.09, 0.105, 0.1), color)
    elif style == "medium":
        p.limb(((0.0, 0.09), (0.0, 0.125)), (0.09, 0.094), color)


def head(f: Figure) -> None:
    """Draws head, hair and, unless seen from behind, the face."""
    if f.side:
        _side_head(f)
    elif f.front:
        _front_head(f)
    else:
        _back_head(f)


def _front_head(f: Figure) -> None:
    p, who, skin, hair = f.head_painter, f.who, f.paint["skin"], f.paint["hair"]
    for side in (-1, 1):
        p.disc(side * 0.078, 0.108, 0.016, 0.022, shade(skin, 0.9))
    p.disc(0.0, 0.093, 0.078, 0.093, skin)
    if who.hair_style != "bald":
        if who.hair_style == "bun":
            p.disc(0.0, -0.004, 0.045, 0.04, hair)
            p.disc(0.0, 0.022, 0.03, 0.008, shade(hair, 0.6))
        p.dome(0.0, 0.098, 0.084, 0.1, hair)
        p.disc(0.0, 0.122, 0.064, 0.072, skin)
    if who.hair_style == "long":
        for side in (-1, 1):
            points = ((side * 0.076, 0.09), (side * 0.086, 0.2), (side * 0.084, 0.3))
            p.limb(points, (0.018, 0.027, 0.022), hair)
    elif who.hair_style == "medium":
        for side in (-1, 1):
            p.limb(((side * 0.078, 0.08), (side * 0.08, 0.155)), (0.016, 0.024), hair)
    if who.beard != NONE:
        beard = hair if who.hair_style != "bald" else shade(hair, 0.8)
        p.bowl(0.0, 0.132, 0.068, 0.062, beard)
        p.disc(0.0, 0.128, 0.05, 0.018, skin)
        p.disc(0.0, 0.158, 0.022, 0.009, (190, 96, 88))
    else:
        p.line(((-0.02, 0.158), (0.02, 0.158)), (168, 76, 70), 0.012)
    for side in (-1, 1):
        p.disc(side * 0.032, 0.108, 0.011, 0.012, _INK)
    _glasses(f, ((-0.034, 0.11), (0.034, 0.11)))


def _glasses(f: Figure, lenses: tuple[tuple[float, float], ...]) -> None:
    kind, p = f.who.eyewear, f.head_painter
    if kind == NONE:
        return
    for u, v in lenses:
        p.disc(u, v, 0.033, 0.027, _INK)
        if kind == "glasses":
            p.disc(u, v, 0.021, 0.016, (226, 238, 246))
            p.disc(u, v, 0.007, 0.008, _INK)
    ends = ((-0.076, 0.1), (0.076, 0.1)) if f.front else ((-0.01, 0.1), lenses[0])
    p.line(ends, _INK, 0.013)


def _side_head(f: Figure) -> None:
    p, who, skin, hair = f.head_painter, f.who, f.paint["skin"], f.paint["hair"]
    style = who.hair_style
    if style == "bun":
        p.disc(-0.085, 0.045, 0.045, 0.043, hair)
    p.disc(0.0, 0.093, 0.08, 0.093, skin)
    p.poly(((0.068, 0.085), (0.102, 0.122), (0.068, 0.132)), skin)
    if style != "bald":
        low = 0.05 if style in ("short", "ponytail", "bun") else 0.085
        p.disc(-0.02, 0.07, 0.074, 0.076, hair)
        p.limb(((-0.045, 0.07), (-0.05, 0.075 + low)), (0.05, 0.036), hair)
        p.disc(0.044, 0.118, 0.046, 0.064, skin)
        p.disc(-0.008, 0.112, 0.014, 0.02, shade(skin, 0.85))
    if style == "long":
        points = ((-0.05, 0.08), (-0.068, 0.2), (-0.07, 0.29))
        p.limb(points, (0.05, 0.044, 0.03), hair)
        p.disc(-0.008, 0.112, 0.014, 0.02, shade(skin, 0.85))
    elif style == "medium":
        p.limb(((-0.045, 0.08), (-0.045, 0.15)), (0.052, 0.048), hair)
    elif style == "ponytail":
        points = ((-0.085, 0.06), (-0.125, 0.12), (-0.12, 0.23))
        p.limb(points, (0.024, 0.034, 0.016), hair)
        p.disc(-0.088, 0.062, 0.016, 0.02, (196, 60, 90))
    if who.beard != NONE:
        beard = hair if style != "bald" else shade(hair, 0.8)
        p.limb(((0.0, 0.145), (0.05, 0.165)), (0.026, 0.03), beard)
    p.disc(0.058, 0.104, 0.011, 0.012, _INK)
    _glasses(f, ((0.06, 0.107),))


def _back_head(f: Figure) -> None:
    p, who, skin, hair = f.head_painter, f.who, f.paint["skin"], f.paint["hair"]
    for side in (-1, 1):
        p.disc(side * 0.078, 0.108, 0.016, 0.022, shade(skin, 0.9))
    p.disc(0.0, 0.093, 0.078, 0.093, skin)
    if who.hair_style == "bald":
        p.line(((-0.03, 0.15), (0.03, 0.15)), shade(skin, 0.8), 0.01)
        return
    p.disc(0.0, 0.083, 0.083, 0.082, hair)
    if who.hair_style == "medium":
        p.limb(((0.0, 0.09), (0.0, 0.13)), (0.088, 0.093), hair)
        p.line(((0.0, 0.06), (0.0, 0.2)), shade(hair, 0.8), 0.012)
    elif who.hair_style == "bun":
        p.disc(0.0, 0.01, 0.048, 0.045, hair)
        p.ring(0.0, 0.01, 0.05, 0.046, shade(hair, 0.65), 0.01)


def long_hair_back(f: Figure) -> None:
    """Draws hair that falls over the back."""
    p, hair = f.head_painter, f.paint["hair"]
    if f.who.hair_style == "long":
        p.limb(((0.0, 0.12), (0.0, 0.25), (0.0, 0.31)), (0.08, 0.08, 0.07), hair)
        for u in (-0.035, 0.0, 0.035):
            p.line(((u, 0.15), (u, 0.36)), shade(hair, 0.78), 0.009)
    elif f.who.hair_style == "ponytail":
        p.limb(((0.0, 0.09), (0.0, 0.18), (0.0, 0.29)), (0.028, 0.04, 0.016), shade(hair, 0.8))
        p.disc(0.0, 0.095, 0.032, 0.018, (196, 60, 90))


def headwear(f: Figure) -> None:
    """Draws cap, beanie or brimmed hat."""
    p, color, kind = f.head_painter, f.paint["headwear"], f.who.headwear
    if color is None:
        return
    dark = shade(color, 0.7)
    if kind == "cap":
        p.dome(0.0, 0.072, 0.09, 0.084, color)
        if f.side:
            p.poly(((0.05, 0.045), (0.155, 0.066), (0.155, 0.084), (0.04, 0.078)), dark)
        elif f.front:
            p.poly(((-0.075, 0.058), (0.075, 0.058), (0.09, 0.09), (-0.09, 0.09)), dark)
        else:
            p.dome(0.0, 0.074, 0.034, 0.03, f.paint["hair"])
            p.line(((-0.09, 0.07), (0.09, 0.07)), dark, 0.012)
        p.disc(0.0, -0.01, 0.012, 0.009, dark)
    elif kind == "beanie":
        p.dome(0.0, 0.07, 0.09, 0.084, color)
        p.disc(0.0, -0.012, 0.034, 0.028, shade(color, 1.3))
        p.band(-0.094, 0.044, 0.094, 0.084, dark)
    else:
        p.poly(((-0.06, -0.012), (0.06, -0.012), (0.078, 0.06), (-0.078, 0.06)), color)
        p.band(-0.076, 0.032, 0.076, 0.05, dark)
        p.disc(0.0, 0.062, 0.155, 0.024, color)


def scarf(f: Figure) -> None:
    """Draws the scarf around the neck and its end."""
    color = f.paint["scarf"]
    if color is None:
        return
    p, dark = f.painter, shade(color, 0.78)
    p.disc(0.0, 0.2, 0.088, 0.034, color)
    p.disc(0.0, 0.188, 0.06, 0.014, dark)
    if f.front:
        p.band(0.015, 0.21, 0.068, 0.37, color)
        p.band(0.015, 0.35, 0.068, 0.37, dark)
    elif f.side:
        p.limb(((-0.05, 0.21), (-0.1, 0.27), (-0.11, 0.34)), (0.026, 0.028, 0.026), color)
    else:
        p.band(-0.07, 0.21, -0.02, 0.33, color)
        p.band(-0.07, 0.31, -0.02, 0.33, dark)
