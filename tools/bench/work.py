"""The work that both sides do: configuration, images, captions, masks, all from one seed."""

import numpy as np
from ml_collections import ConfigDict

from tools.config_file import load_config

SIZES = ("full", "small")


def make_config(size: str, dtype: str = "float32", depth: int = 0) -> ConfigDict:
    """The full-size configuration, or one of the same shape that runs in seconds.

    Args:
      size: "full" (ViT-B/16, BERT base) or "small".
      dtype: of our activations.
      depth: layers of every part, 0 for the configuration's own number.
    """
    config = load_config("default")
    config.model.dtype = dtype
    if size == "small":
        config.data.image_size = (64, 64)
        for side in (config.model.image, config.model.text):
            side.update(width=64, depth=2, heads=2, mlp_dim=128)
        config.model.text.vocab_size = 1000
        config.model.tokens.update(dec=998, enc=999)
        config.model.embed_dim = 32
    if depth:
        config.model.image.depth = config.model.text.depth = depth
    return config


def make_images(config: ConfigDict, rows: int, seed: int = 0) -> np.ndarray:
    """Noise, uint8 [rows,H,W,3]."""
    shape = (rows, *config.model.image.size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def make_captions(config: ConfigDict, rows: int, words: tuple[int, int], seed: int = 0):
    """Token ids int32 [rows,73] of captions of `words` (least, most) words, a token each."""
    rng = np.random.default_rng(seed)
    length, tokens = config.data.max_length, config.model.tokens
    ids = rng.integers(200, config.model.text.vocab_size - 10, (rows, length)).astype(np.int32)
    ends = 1 + np.minimum(rng.integers(words[0], words[1] + 1, rows), length - 2)
    ids[np.arange(length)[None] > ends[:, None]] = tokens.pad
    ids[np.arange(rows), ends] = tokens.sep
    ids[:, 0] = tokens.cls
    return ids


def make_train_batch(config: ConfigDict, rows: int, words: tuple[int, int]) -> dict:
    """A batch as `input_pipeline.train_batches` yields it: two captions a person.

    Half of the words belong to attribute phrases of three tokens, much as in the benchmarks.
    """
    token_ids = make_captions(config, rows, words)
    length = token_ids.shape[1]
    real = (token_ids != config.model.tokens.pad) & (token_ids != config.model.tokens.sep)
    place = np.arange(length, dtype=np.int32)[None]
    inside = real & (place > 0) & (place // 3 % 2 == 1)
    return {
        "image": make_images(config, rows),
        "token_ids": token_ids,
        "phrase_ids": np.where(inside, 1 + place // 3, 0).astype(np.int32),
        "attribute_mask": inside,
        "pid": (np.arange(rows) // 2).astype(np.int32),
    }


def mask_for_torch(config: ConfigDict, batch: dict) -> tuple[np.ndarray, np.ndarray]:
    """(masked token ids, labels with -100 elsewhere), by the same rates as in our step."""
    rng = np.random.default_rng(1)
    drawn = np.take_along_axis(rng.random(batch["phrase_ids"].shape), batch["phrase_ids"], axis=1)
    masked = (drawn < config.ara.phrase_rate) & (batch["phrase_ids"] > 0)
    ids = np.where(masked, config.model.tokens.mask, batch["token_ids"])
    return ids, np.where(masked, batch["token_ids"], -100)
