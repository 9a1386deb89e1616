"""What the shapes and the config of a checkpoint tell about its model."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from cada_jax.checkpoints.torch.files import Checkpoint
from cada_jax.checkpoints.torch.names import dialect_of, translate

# Under this key of a .pth's "config" stand our config and vocabulary, so that it can come back.
OUR_KEY = "cada_jax"
POSITIONS = "visual_encoder.pos_embed"
PATCHES = "visual_encoder.patch_embed.proj.weight"


def infer_sizes(tensors: Mapping[str, np.ndarray], config) -> None:
    """Sets the sizes a checkpoint shows in `config.model`, in place.

    Width, depth, MLP width and the embedding's width. Vocabulary, patch and number of positions
    stay as they are, so that a checkpoint of others is refused. The number of heads cannot be seen:
    where the width changes it becomes width / 64, as in every published ViT and BERT.
    A tensor whose number of axes is not the expected one tells nothing; the conversion refuses it.
    """
    names = shapes_of(tensors)

    def set_side(side, width, mlp, layers):
        if len(names.get(width, ())) < 1 or len(names.get(mlp, ())) != 2:
            return
        new = names[width][-1]
        if new != side.width:
            side.width, side.heads = new, max(1, new // 64)
        side.mlp_dim = names[mlp][0]
        # How many, not the highest number: a misnamed layer must not ask for a thousand.
        side.depth = len({m.group(1) for m in map(re.compile(layers).match, names) if m})

    image = "visual_encoder"
    set_side(
        config.model.image,
        f"{image}.cls_token",
        f"{image}.blocks.0.mlp.fc1.weight",
        rf"{image}\.blocks\.(\d+)\.",
    )
    for text in ("text_decoder.bert", "text_encoder"):
        set_side(
            config.model.text,
            f"{text}.embeddings.word_embeddings.weight",
            f"{text}.encoder.layer.0.intermediate.dense.weight",
            rf"{re.escape(text)}\.encoder\.layer\.(\d+)\.",
        )
    if names.get("vision_proj.weight"):
        config.model.embed_dim = names["vision_proj.weight"][0]


def shapes_of(tensors: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint's tensors by the names of CADA, without those it lacks."""
    dialect = dialect_of(tensors)
    shapes = {translate(name, dialect, "cada"): x.shape for name, x in tensors.items()}
    return {name: shape for name, shape in shapes.items() if name is not None}


def stored_grid(checkpoint: Checkpoint) -> tuple[int, int] | None:
    """The (rows, columns) of patches that a checkpoint's own config tells, else None.

    Three configs are read: ours, that of a Hugging Face folder, and the "image_size" or
    "image_res" that the authors' and BLIP's training scripts put beside the weights. A config that
    does not agree with the number of positions tells nothing: scripts store what they were
    started with.
    """
    shapes = shapes_of(checkpoint.tensors)
    positions, patch = shapes.get(POSITIONS, ()), shapes.get(PATCHES, ())
    if len(positions) != 3:
        return None
    config = checkpoint.config
    ours = our_config(checkpoint)
    theirs = config.get("vision_config")
    if isinstance(ours, dict):
        image = _at(ours, "model", "image")
        sizes = [(_at(image, "size"), _at(image, "patch"))]
    elif isinstance(theirs, dict):
        sizes = [(theirs.get("image_size"), theirs.get("patch_size"))]
    else:
        sizes = [(config.get(key), list(patch[2:])) for key in ("image_size", "image_res")]
    for size, patch_size in sizes:
        grid = _divide(_pair(size), _pair(patch_size))
        if grid and 1 + grid[0] * grid[1] == positions[1]:
            return grid
    return None


def our_config(checkpoint: Checkpoint) -> dict | None:
    """The config that this project wrote into a checkpoint, None if it did not."""
    config = _at(checkpoint.config, OUR_KEY, "config")
    return config if isinstance(config, dict) else None


def _at(values: Any, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _pair(value: Any) -> tuple[int, int] | None:
    pair = (value, value) if isinstance(value, int) else value
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return None
    first, second = pair
    return (first, second) if all(isinstance(x, int) and x > 0 for x in pair) else None


def _divide(size: tuple[int, int] | None, patch: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None or patch is None or size[0] % patch[0] or size[1] % patch[1]:
        return None
    return size[0] // patch[0], size[1] // patch[1]
