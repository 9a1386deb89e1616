"""Token-patch associations: which image patches every word of a caption attends to."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cada_jax.common.shapes import AnyArray, Float, Float32, Int, UInt8
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.retrieval.network import Network

MARGIN, GAP = 24, 10
TILE_HEIGHT, COLUMNS = 176, 10
INK = (25, 25, 30)


@dataclasses.dataclass(frozen=True)
class Associations:
    """What the decoder's text tokens attended to.

    Attributes:
      weights: float32 [layers, B, heads, L, S]; S = 1 + patches, each row sums to 1.
      gates: float32 [layers, B, L] in (0, 2), how far a token lets its patches in; None when the
        model has no gates.
    """

    weights: Float32[np.ndarray, "layers B heads L S"]
    gates: Float32[np.ndarray, "layers B L"] | None

    def maps(self, grid: tuple[int, int]) -> Float32[np.ndarray, "B L rows columns"]:
        """Mean over layers and heads without the image's [CLS]: float32 [B, L, rows, columns].

        Args:
          grid: (rows, columns) of patches.

        Raises:
          ValueError: the grid does not hold S - 1 patches.
        """
        mean = self.weights[..., 1:].mean(axis=(0, 2))
        if grid[0] * grid[1] != mean.shape[-1]:
            raise ValueError(
                f"A grid of {grid[0]}x{grid[1]} does not hold {mean.shape[-1]} patches; "
                "it is image_size / patch of the model's configuration."
            )
        return mean.reshape(*mean.shape[:2], *grid)


def associations(
    network: Network, images: UInt8[AnyArray, "B H W 3"], token_ids: Int[AnyArray, "B L"]
) -> Associations:
    """Runs the decoder on pairs and keeps its cross-attention.

    Args:
      network: on its devices.
      images: uint8 [B,H,W,3].
      token_ids: int32 [B,L], row i describes image i.
    """
    state = network.run(_intermediates, images, token_ids)
    kept = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        names = [getattr(key, "key", None) for key in path]
        if (name := _sown_name(names)) in ("cross_attention", "gate"):
            kept[name] = np.asarray(leaf)
    gates = kept.get("gate")
    return Associations(kept["cross_attention"], None if gates is None else gates[..., 0])


def _sown_name(names: list) -> str | None:
    return next((name for name in reversed(names) if isinstance(name, str)), None)


@functools.partial(jax.jit, static_argnames="model")
def _intermediates(model, params, images, token_ids):
    tokens = model.apply({"params": params}, normalize_pixels(images), method="encode_image")
    _, state = model.apply(
        {"params": params}, token_ids, tokens, method="decode", mutable=["intermediates"]
    )
    return state["intermediates"]


def association_picture(
    image: Image.Image,
    words: Sequence[str],
    maps: Float[np.ndarray, "T rows columns"],
    gates: Float[np.ndarray, "T"] | None = None,
) -> Image.Image:
    """Draws the image, then one heat map over it for every token.

    Every map is scaled to its own largest value: it shows where a token looks, not how much.

    Args:
      image: what the tokens attended to.
      words: the T tokens to show.
      maps: float [T, rows, columns], not negative.
      gates: float [T], written under the maps, or None.
    """
    width = round(TILE_HEIGHT * image.width / image.height)
    tile = (max(width, 64), TILE_HEIGHT)
    count = len(words) + 1
    rows = -(-count // COLUMNS)
    step = tile[0] + GAP, tile[1] + 30
    picture = Image.new(
        "RGB",
        (2 * MARGIN + min(count, COLUMNS) * step[0] - GAP, 2 * MARGIN + rows * step[1] - GAP),
        "white",
    )
    draw = ImageDraw.Draw(picture)
    base = image.convert("RGB").resize(tile, Image.Resampling.BICUBIC)
    for i in range(count):
        x, y = MARGIN + i % COLUMNS * step[0], MARGIN + i // COLUMNS * step[1]
        if i == 0:
            picture.paste(base, (x, y))
            continue
        picture.paste(_heat(base, maps[i - 1]), (x, y))
        label = words[i - 1] if gates is None else f"{words[i - 1]}  {gates[i - 1]:.2f}"
        draw.text(
            (x + tile[0] / 2, y + tile[1] + 5), label, INK, ImageFont.load_default(14), anchor="ma"
        )
    return picture


def _heat(base: Image.Image, weights: Float[np.ndarray, "rows columns"]) -> Image.Image:
    """Lays one map [rows, columns] over an image: blue where it is low, red where it is high."""
    heat = np.asarray(weights, np.float32) / max(float(np.max(weights)), 1e-12)
    heat = Image.fromarray(heat).resize(base.size, Image.Resampling.BICUBIC)
    level = np.clip(np.asarray(heat), 0.0, 1.0)[..., None]
    stops = np.array([0.0, 0.35, 0.7, 1.0])
    colours = np.array([[40, 40, 120], [30, 150, 170], [250, 200, 60], [220, 40, 30]])
    colour = np.concatenate([np.interp(level, stops, colours[:, i]) for i in range(3)], axis=-1)
    grey = np.asarray(base.convert("L"), np.float32)[..., None]
    mixed = (0.45 + 0.1 * level) * colour + (0.55 - 0.1 * level) * grey
    return Image.fromarray(mixed.astype(np.uint8))
