"""What the shapes and the config of a checkpoint tell about its model."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.checkpoints.torch.convert import misfit
from cada_jax.checkpoints.torch.names import GATE
from cada_jax.common.errors import UsageError
from cada_jax.common.pytrees import flat_arrays
from cada_jax.models.cada import from_config, init_params

IMAGE_POSITIONS = "image_encoder/pos_embed"
_PATCHES = "image_encoder/patch_embed/kernel"
# Under this key of a .pth's "config" stand our config and vocabulary, so that it can come back.
OUR_KEY = "cada_jax"
HUB_EPSILON = 1e-5  # of transformers' ViT of BLIP, where a config.json names none
# BLIP's config for each side of the model, in a folder of Hugging Face.
_SIDES = {"image": "vision_config", "text": "text_config"}


def set_sizes(config: ConfigDict, leaves: Mapping[str, np.ndarray], stored: Any = None) -> None:
    """Sets what a checkpoint shows in `config.model` and `config.atp.gate`, in place.

    Widths, depths, vocabulary, positions, patch and stems. What cannot be seen is config.json's:
    the number of heads, else width / 64, as in every published ViT and BERT; and the epsilon of the
    image encoder's LayerNorm, which is 1e-5 in the folders of Hugging Face and 1e-6 in the code
    that trained their weights.

    Args:
      config: full config, not locked.
      leaves: of `convert.from_torch`; a part that is not there changes nothing.
      stored: what the checkpoint keeps as its config.
    """
    shapes = {name: leaf.shape for name, leaf in leaves.items()}
    text = "text_encoder" if "text_encoder/word_embed/embedding" in shapes else None
    text = text or "attribute_decoder/bert"
    sides = {"image": ("image_encoder", "blocks"), "text": (text, "layers")}
    for side, (part, layers) in sides.items():
        fc1 = shapes.get(f"{part}/{layers}/mlp/fc1/kernel")
        if fc1 and len(fc1) == 3:
            model = config.model[side]
            model.depth, model.width, model.mlp_dim = fc1
            heads = _at(stored, _SIDES[side], "num_attention_heads")
            model.heads = heads if isinstance(heads, int) else max(1, model.width // 64)
    image, words = config.model.image, config.model.text
    if _at(stored, _SIDES["image"]):
        image.norm_epsilon = _at(stored, _SIDES["image"], "layer_norm_eps") or HUB_EPSILON
    image.stem = "conv" if "image_encoder/stem/conv0/kernel" in shapes else "patch"
    words.stem = "conv" if f"{text}/conv_stem/conv/kernel" in shapes else "embed"
    if len(shapes.get(_PATCHES, ())) == 4:
        image.patch = tuple(n * (4 if image.stem == "conv" else 1) for n in shapes[_PATCHES][:2])
    if f"{text}/word_embed/embedding" in shapes:
        words.vocab_size = shapes[f"{text}/word_embed/embedding"][0]
        words.max_positions = shapes.get(f"{text}/pos_embed/embedding", (words.max_positions,))[0]
        length = min(config.data.max_length, words.max_positions)
        config.data.max_length = length - (length - 1) % 2  # into two groups and [CLS]
    if "vision_proj/kernel" in shapes:
        config.model.embed_dim = shapes["vision_proj/kernel"][-1]
    config.atp.gate = "token" if any(name.startswith(GATE) for name in shapes) else "off"


def stored_grid(rows: int, stored: Any, patch: tuple[int, int]) -> tuple[int, int] | None:
    """The (rows, columns) of patches that a checkpoint's own config tells, else None.

    Read are ours, that of a Hugging Face folder, and the "image_size" or "image_res" that the
    authors' and BLIP's training scripts put beside the weights. A config that does not agree with
    the number of positions tells nothing: scripts store what they were started with.
    """
    for size in (
        _at(stored, OUR_KEY, "config", "model", "image", "size"),
        _at(stored, "vision_config", "image_size"),
        _at(stored, "image_size"),
        _at(stored, "image_res"),
    ):
        pair = [size, size] if isinstance(size, int) else size
        if isinstance(pair, list | tuple) and len(pair) == 2 and all(type(n) is int for n in pair):
            grid = (pair[0] // patch[0], pair[1] // patch[1])
            if grid[0] * grid[1] == rows:
                return grid
    return None


def set_image_size(config: ConfigDict, leaves: Mapping[str, np.ndarray], stored: Any) -> None:
    """Sets `config.data.image_size` to what the position embeddings were made for.

    Raises:
      UsageError: their grid is not square, and nothing tells which one it is.
    """
    rows, patch = leaves[IMAGE_POSITIONS].shape[1] - 1, config.model.image.patch
    grid, side = stored_grid(rows, stored, patch), round(rows**0.5)
    if grid is None and side * side != rows:
        raise UsageError(
            f"{rows} position embeddings of patches are no square, and the checkpoint does not "
            "tell their grid: name the size of its images, as --image_size=384,128"
        )
    config.data.image_size = tuple(n * p for n, p in zip(grid or (side, side), patch, strict=True))


def shapes_of(config: ConfigDict) -> dict[str, tuple[int, ...]]:
    """Leaf path -> shape of the network that a config describes."""
    model = from_config(config)
    tree = jax.eval_shape(lambda key: init_params(model, config, key), jax.random.key(0))
    return {name: leaf.shape for name, leaf in flat_arrays(tree).items()}


def check_sizes(config: ConfigDict, leaves: Mapping[str, np.ndarray], origin: str) -> None:
    """Raises UsageError unless the parts that are there are whole and of the config's sizes."""
    parts = {name.split("/")[0] for name in leaves}
    expected = {n: shape for n, shape in shapes_of(config).items() if n.split("/")[0] in parts}
    came = {name: leaf.shape for name, leaf in leaves.items()}
    misfits = [f"missing: {name} {expected[name]}" for name in expected if name not in came]
    misfits += [f"unexpected: {name} {came[name]}" for name in came if name not in expected]
    misfits += [
        f"{name} is {came[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in came and came[name] != shape
    ]
    if misfits:
        raise misfit(origin, misfits)


def our_config(stored: Any, origin: str) -> ConfigDict | None:
    """The config that this project wrote into a checkpoint, None if it did not.

    Raises:
      UsageError: it describes no network.
    """
    values = _at(stored, OUR_KEY, "config")
    if not isinstance(values, dict):
        return None
    try:
        config = config_lib.from_values(values, origin)
        config_lib.check_network(config)
    except (ValueError, TypeError) as e:
        raise UsageError(f"{origin}: the config stored in it is of no use: {e}") from e
    return config


def _at(values: Any, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values
