"""Muted backgrounds, occluders and what the camera does to the picture."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cada_jax.data.datasets.synthetic.camera import Shot
from cada_jax.data.datasets.synthetic.painter import Color, shade
from cada_jax.data.datasets.synthetic.world import Look


def draw_background(
    draw: ImageDraw.ImageDraw, width: int, height: int, seed: int, look: Look
) -> Color:
    """Draws street, park, corridor or shop front; returns the colour of the ground."""
    rng = np.random.default_rng(seed)
    u = rng.random(24).tolist()
    wall = shade(look.walls[int(u[0] * 5)], 0.82 + 0.36 * u[1])
    ground = shade(look.grounds[int(u[2] * 5)], 0.82 + 0.36 * u[3])
    horizon = (0.5 + 0.32 * u[4]) * height
    draw.rectangle((0, 0, width, horizon), fill=wall)
    draw.rectangle((0, horizon, width, height), fill=ground)
    kind = int(u[5] * 4)
    if kind == 0:  # house with windows
        dark = shade(wall, 0.72 + 0.12 * u[6])
        size = (0.16 + 0.14 * u[7]) * width
        for row in range(3):
            y = (0.04 + 0.22 * row + 0.1 * u[8]) * height
            for column in range(4):
                x = (column * 0.36 - 0.2 * u[9]) * width
                draw.rectangle((x, y, x + size, y + 0.13 * height), fill=dark)
    elif kind == 1:  # trees and hedge
        for i in range(4):
            x, y = u[6 + i] * width * 1.2 - 0.1 * width, (0.1 + 0.3 * u[10 + i]) * height
            r = (0.2 + 0.2 * u[14 + i]) * width
            leaf = shade(look.leaves[i % 3], 0.9 + 0.2 * u[18])
            draw.rectangle((x - 3, y, x + 3, horizon), fill=(98, 88, 78))
            draw.ellipse((x - r, y - r, x + r, y + r), fill=leaf)
        draw.rectangle((0, horizon - 0.05 * height, width, horizon), fill=look.leaves[2])
    elif kind == 2:  # corridor: panels and floor tiles
        for i in range(4):
            x = (i + u[6]) * 0.3 * width
            draw.line((x, 0, x, horizon), fill=shade(wall, 0.88), width=3)
        for i in range(3):
            y = horizon + (height - horizon) * (i + 0.5) ** 1.5 / 5
            draw.line((0, y, width, y), fill=shade(ground, 0.86), width=2)
        draw.rectangle((0, horizon - 6, width, horizon), fill=shade(wall, 0.75))
    else:  # kerb, lamp post and a far car
        x, y = u[6] * width, horizon - 0.02 * height
        draw.line((x, 0, x, horizon), fill=shade(wall, 0.66), width=5)
        car = shade((120, 124, 130), 0.7 + 0.6 * u[7])
        left = (u[8] - 0.3) * width
        draw.rectangle((left, y - 0.1 * height, left + 0.55 * width, y), fill=car)
        draw.rectangle(
            (left + 0.1 * width, y - 0.16 * height, left + 0.42 * width, y - 0.09 * height),
            fill=shade(car, 0.8),
        )
        draw.line((0, horizon + 8, width, horizon + 8), fill=shade(ground, 1.3), width=4)
    for left, top, wide, high, *color in rng.random((look.clutter, 7)).tolist():
        x, y = left * width, top * 0.7 * height
        red, green, blue = (int(60 + 180 * c) for c in color)
        box = (x, y, x + 0.3 * wide * width, y + 0.2 * high * height)
        draw.rectangle(box, fill=(red, green, blue))
    return ground


def draw_occluder(
    draw: ImageDraw.ImageDraw, width: int, height: int, shot: Shot, feet: float, look: Look
) -> None:
    """Draws what stands in front of the person; `feet` is the pixel row of the soles."""
    tone = 70 + shot.scene % 70
    color = (tone, tone + shot.scene % 9, tone - shot.scene % 13)
    if shot.occluder == "low":
        top = feet - 0.15 * shot.scale * height
        if shot.scene % 2:
            draw.rectangle((0, top, width, height), fill=color)
            draw.rectangle((0, top, width, top + 6), fill=shade(color, 1.25))
        else:
            leaf = shade(look.leaves[shot.scene % 3], 0.85)
            draw.rectangle((0, top + 8, width, height), fill=leaf)
            step = width / 7
            for i in range(9):
                x = i * step - step / 2
                draw.ellipse((x - 14, top - 2, x + 14, top + 26), fill=leaf)
    elif shot.occluder == "pole":
        middle = width * (0.5 + shot.offset) + shot.pole_side * 0.215 * shot.scale * height
        draw.rectangle((middle - 12, 0, middle + 12, height), fill=color)
        draw.rectangle((middle - 12, 0, middle - 7, height), fill=shade(color, 1.2))


def develop(image: Image.Image, shot: Shot, rng: np.random.Generator, look: Look) -> Image.Image:
    """Applies resolution, light, colour cast, blur and sensor noise to the final-size image."""
    if look.resolution < 1:
        width, height = (round(side * look.resolution) for side in image.size)
        small = image.resize((width, height), Image.Resampling.BOX)
        image = small.resize(image.size, Image.Resampling.BILINEAR)
    if shot.blur:
        image = image.filter(ImageFilter.GaussianBlur(shot.blur))
    pixels = np.asarray(image, dtype=np.float32)
    height, width, _ = pixels.shape
    across = 1 + shot.gradient * np.linspace(-0.5, 0.5, width, dtype=np.float32)
    gain = across[:, None] * np.asarray(shot.light, np.float32)
    gain = gain * np.asarray(look.cast, np.float32) * np.float32(look.contrast)
    veil = np.float32(128 * (1 - look.contrast))
    # One value for all channels: sensors differ in brightness more than in hue.
    grain = rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(shot.noise)
    pixels = pixels * gain + veil + grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
