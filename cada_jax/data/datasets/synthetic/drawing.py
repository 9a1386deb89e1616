"""Draws an identity under a shot: layers from back to front.

Proportions are those of a drawing, not of anatomy: at 96x48 pixels a head of an
eighth of the height could not carry glasses, nor a thin strap its colour.
"""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cada_jax.data.datasets.synthetic import body, carried, head
from cada_jax.data.datasets.synthetic.camera import FRONT, Shot, sample_shot
from cada_jax.data.datasets.synthetic.figure import Figure
from cada_jax.data.datasets.synthetic.identity import NONE, Identity
from cada_jax.data.datasets.synthetic.painter import Color, Painter, shade
from cada_jax.data.datasets.synthetic.scene import develop, draw_background, draw_occluder
from cada_jax.data.datasets.synthetic.world import HOME, Look

HEIGHT, WIDTH = 96, 48
_SUPERSAMPLING = 3
# Two colors no shade of which looks like one of the other.
_TELLING = ((255, 0, 255), (0, 120, 0))


def draw_person(
    identity: Identity, shot: Shot, rng: np.random.Generator, look: Look = HOME.look
) -> Image.Image:
    """Returns the RGB image, `HEIGHT` x `WIDTH`, of a person under a shot."""
    image = _draw(identity, shot, _paint(identity, look, rng), look)
    return develop(image.reduce(_SUPERSAMPLING), shot, rng, look)


def draw_place(rng: np.random.Generator, look: Look = HOME.look) -> Image.Image:
    """Returns an RGB image, `HEIGHT` x `WIDTH`, in which nobody is: what else a detector finds."""
    shot = sample_shot(rng)
    width, height = WIDTH * _SUPERSAMPLING, HEIGHT * _SUPERSAMPLING
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    draw_background(draw, width, height, shot.scene, look)
    draw_occluder(draw, width, height, shot, (shot.top + shot.scale) * height, look)
    return develop(image.reduce(_SUPERSAMPLING), shot, rng, look)


def part_mask(identity: Identity, shot: Shot, part: str, look: Look = HOME.look) -> np.ndarray:
    """Where a part shows in what `draw_person` draws, behind what stands before it.

    Two drawings are compared that differ in this part alone: in its color, or in whether it is
    there.

    Args:
        identity: who is drawn.
        shot: how.
        part: a field of `Identity` that is worn or carried, or "hair".
        look: of the world.

    Returns:
        float32 [`HEIGHT`, `WIDTH`], the share of each pixel that the part covers, in [0, 1].
    """
    paint = _paint(identity, look, np.random.default_rng(0))
    if part in paint and paint[part] is None or getattr(identity, part, "") == NONE:
        return np.zeros((HEIGHT, WIDTH), np.float32)
    if part in paint:
        bare = identity._replace(beard=NONE) if part == "hair" else identity  # of the same color
        pair = [_draw(bare, shot, paint | {part: color}, look) for color in _TELLING]
    else:
        without = identity._replace(**{part: NONE})
        pair = [_draw(one, shot, paint, look) for one in (identity, without)]
    one, other = (np.asarray(image, np.int16) for image in pair)
    differs = (one != other).any(axis=-1).astype(np.float32)
    step = _SUPERSAMPLING
    return differs.reshape(HEIGHT, step, WIDTH, step).mean(axis=(1, 3))


def _draw(identity: Identity, shot: Shot, paint: dict[str, Any], look: Look) -> Image.Image:
    """The painting, before any camera: `_SUPERSAMPLING` times as large."""
    width, height = WIDTH * _SUPERSAMPLING, HEIGHT * _SUPERSAMPLING
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    ground = draw_background(draw, width, height, shot.scene, look)
    scale = shot.scale * height
    x, y = width * (0.5 + shot.offset), shot.top * height
    mirror = 1 if shot.view == FRONT or shot.facing > 0 else -1
    if shot.view != "side":
        mirror = 1
    painter = Painter(draw, scale, x, y, shot.lean, mirror * look.build, look.ink)
    figure = Figure(identity, shot, painter, paint, look.head)
    figure.painter.disc(0.0, 0.99, 0.2, 0.022, shade(ground, 0.78))
    if shot.view == "side":
        _draw_side(figure)
    else:
        _draw_front_or_back(figure)
    draw_occluder(draw, width, height, shot, y + scale, look)
    return image


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """Returns the JPEG file; chroma is kept whole, as two pixels are a strap's width."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _paint(identity: Identity, look: Look, rng: np.random.Generator) -> dict[str, Color | None]:
    jitter = iter((0.93 + 0.12 * rng.random(10)).tolist())
    paint: dict[str, Color | None] = {}
    for field in ("headwear", "scarf", "top", "outer", "bottom", "shoes", "bag", "item"):
        name = getattr(identity, field + "_color")
        paint[field] = None if name == NONE else shade(look.colors[name], min(1.06, next(jitter)))
    hair = look.hair_colors.get(identity.hair_color, look.hair_colors["brown"])
    paint["hair"] = shade(hair, min(1.0, next(jitter)))
    paint["skin"] = shade(look.skins[identity.skin], min(1.0, next(jitter)))
    return paint


def _draw_front_or_back(f: Figure) -> None:
    front = f.shot.view == FRONT
    if front:
        carried.bag_behind(f)
        head.hair_behind(f)
    body.legs(f)
    body.bottom(f)
    body.arms(f)
    head.neck(f)
    body.torso(f)
    body.outer(f)
    head.head(f)
    carried.bag(f)
    if not front:
        head.long_hair_back(f)
    head.scarf(f)
    head.headwear(f)
    carried.item(f)


def _draw_side(f: Figure) -> None:
    near_bag = f.shot.bag_is_near
    body.side_arm(f, near=False)
    (carried.side_item if near_bag else carried.side_bag)(f, near=False)
    carried.bag_behind(f)
    body.side_legs(f)
    head.neck(f)
    body.torso(f)
    body.outer(f)
    head.head(f)
    head.scarf(f)
    head.headwear(f)
    body.side_arm(f, near=True)
    carried.side_straps(f)
    (carried.side_bag if near_bag else carried.side_item)(f, near=True)
