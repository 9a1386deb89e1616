"""What both networks are run on: photographs and captions, or random ones."""

import os
import pathlib

import jax.numpy as jnp
import numpy as np
from PIL import Image

from cada_jax.common.errors import MissingFileError, UsageError, reading
from cada_jax.common.files import read_bytes
from cada_jax.common.images import read_rgb
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.text.tokenizer import clean_caption, load_tokenizer

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def random_tokens(rng, config, rows: int) -> np.ndarray:
    """Token ids int32 [rows,L] of texts of different lengths, without special tokens inside."""
    length, tokens = config.data.max_length, config.model.tokens
    words = np.setdiff1d(np.arange(config.model.text.vocab_size), list(tokens.values()))
    token_ids = rng.choice(words, (rows, length)).astype(np.int32)
    ends = rng.integers(length // 3, length, rows)
    token_ids[np.arange(length)[None] > ends[:, None]] = tokens.pad
    token_ids[np.arange(rows), ends] = tokens.sep
    token_ids[:, 0] = tokens.cls
    return token_ids


def read_images(folder, size: tuple[int, int]) -> np.ndarray | None:
    """The pictures of a folder in the order of their names, None if no folder is given.

    Args:
      folder: the flag --images, or None.
      size: (height, width) in pixels that they are resized to.

    Returns:
      float32 [B,H,W,3], normalised.

    Raises:
      MissingFileError: there is no picture.
      UsageError: a picture cannot be read; names it.
    """
    if folder is None:
        return None
    root = pathlib.Path(os.path.expanduser(folder))
    paths = sorted(p for p in root.glob("*") if p.suffix.lower() in PICTURES)
    if not paths:
        raise MissingFileError(f"--images={folder}: no {', '.join(PICTURES)} file in there")
    pictures = (Image.fromarray(read_rgb(path)) for path in paths)
    resized = [np.asarray(p.resize(size[::-1], Image.Resampling.BILINEAR)) for p in pictures]
    return np.asarray(normalize_pixels(jnp.asarray(np.stack(resized))))


def read_captions(file) -> list[str] | None:
    """The cleaned captions of a UTF-8 file with one on each line, None if no file is given.

    Raises:
      UsageError: it cannot be read, or holds no caption.
    """
    if file is None:
        return None
    content = read_bytes(file, "captions in UTF-8, one on each line")
    with reading(file, "captions in UTF-8, one on each line"):
        text = content.decode("utf-8-sig")
    texts = [clean_caption(line) for line in text.splitlines() if line.strip()]
    if not any(texts):
        raise UsageError(f"--captions={file} holds no caption; expected one on each line")
    return texts


def encode_captions(texts: list[str], vocab, config) -> np.ndarray:
    """Token ids int32 [B,L] of cleaned captions; L is config.data.max_length.

    Raises:
      UsageError: there is no such vocabulary, or it has more entries than the model.
    """
    if vocab is None:
        raise UsageError("--captions needs --vocab, the vocabulary file or hub name")
    tokenizer = load_tokenizer(vocab)
    length, rows = config.data.max_length, config.model.text.vocab_size
    token_ids = np.stack([tokenizer.encode(text, length)[0] for text in texts])
    if token_ids.max() >= rows:
        raise UsageError(
            f"--vocab={vocab} gives the id {token_ids.max()}, but the checkpoint has {rows} words"
        )
    return token_ids


def pair_up(images: np.ndarray | None, token_ids: np.ndarray | None) -> int:
    """How many pairs there are, 0 if neither side is given.

    Fewer pictures than captions are used again from the first.

    Raises:
      UsageError: there are fewer captions than pictures.
    """
    if images is not None and token_ids is not None and len(token_ids) < len(images):
        raise UsageError(
            f"--captions has {len(token_ids)} captions for {len(images)} pictures; expected one "
            "line for each picture, in the order of their names"
        )
    return max((len(x) for x in (images, token_ids) if x is not None), default=0)
