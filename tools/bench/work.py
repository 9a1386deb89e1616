"""The work that both sides do: configuration, images, captions, masks, all from one seed."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from cada_jax.config import load_config

SIZES = ("full", "small")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What both sides are told of the work.

    Attributes:
      size: "full" (ViT-B/16, BERT base), or "small": the same shape, runs in seconds.
      dtype: of our activations, "float32" or "bfloat16".
      depth: layers of every part, 0 for the configuration's own number.
      batch: pairs of a training step.
      forward: images and full-length captions of the forward parts.
      words: least and most words of a caption.
      clock: "wall" or "cpu", see `side.stopwatch`.
      threads: of PyTorch, 0 for all cores.
      remat: what our backward pass computes again, see config.model.remat.
    """

    size: str
    dtype: str = "float32"
    depth: int = 0
    batch: int = 1
    forward: int = 1
    words: tuple[int, int] = (15, 45)
    clock: str = "wall"
    threads: int = 0
    remat: str = "off"


def make_config(settings: Settings) -> ConfigDict:
    """The configuration of the network that the settings describe."""
    config = load_config("default")
    config.model.dtype, config.model.remat = settings.dtype, settings.remat
    config.train.batch_size = settings.batch
    if settings.size == "small":
        config.data.image_size = (64, 64)
        for side in (config.model.image, config.model.text):
            side.update(width=64, depth=2, heads=2, mlp_dim=128)
        config.model.text.vocab_size = 1000
        config.model.tokens.update(dec=998, enc=999)
        config.model.embed_dim = 32
    if settings.depth:
        config.model.image.depth = config.model.text.depth = settings.depth
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
    """A batch as `data.batches.train_batches` yields it: two captions a person.

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
