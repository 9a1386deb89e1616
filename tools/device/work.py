"""FLOP that the model asks for, counted from its sizes: products of matrices, two per multiply-add.

Nothing is counted twice because a program computes it twice: what `remat` computes again, padding
of packed rows and rows that are masked are a program's own business. Attention is counted whole,
causal or not.
"""

import math

from ml_collections import ConfigDict


def image_tokens(config: ConfigDict) -> int:
    """Tokens of an image: its patches and [CLS]."""
    image = config.model.image
    return 1 + math.prod(s // p for s, p in zip(image.size, image.patch, strict=True))


def attention_flops(queries: int, keys: float, width: int, of_keys: float, key_width: int) -> float:
    """One attention layer: maps of queries and outputs, of keys and values, scores and mixture.

    Args:
      queries: tokens that attend.
      keys: tokens attended to.
      width: of the tokens, all heads together.
      of_keys: tokens whose keys and values are computed for it, fewer than `keys` where shared.
      key_width: of those tokens.
    """
    maps = 4 * queries * width**2 + 4 * of_keys * key_width * width
    return maps + 4 * queries * keys * width


def layer_flops(tokens: int, part: ConfigDict) -> float:
    """A transformer layer of `config.model.image` or `.text` over one sequence."""
    mlp = 4 * tokens * part.width * part.mlp_dim
    return attention_flops(tokens, tokens, part.width, tokens, part.width) + mlp


def image_flops(config: ConfigDict) -> float:
    """The image encoder over one image, and its projection."""
    image, tokens = config.model.image, image_tokens(config)
    patches = 2 * (tokens - 1) * math.prod(image.patch) * 3 * image.width
    return patches + image.depth * layer_flops(tokens, image) + _projection(config, image.width)


def caption_flops(config: ConfigDict, tokens: int) -> float:
    """The text encoder over a caption of `tokens` tokens, and its projection."""
    text = config.model.text
    return text.depth * layer_flops(tokens, text) + _projection(config, text.width)


def _projection(config: ConfigDict, width: int) -> float:
    return 2 * width * config.model.embed_dim


def match_flops(config: ConfigDict, tokens: int, images: float = 1.0) -> float:
    """The decoder over one caption that attends an image.

    Args:
      config: full config.
      tokens: of the caption.
      images: images whose keys and values are computed for it, below 1 where captions share one.
    """
    text, seen = config.model.text, image_tokens(config)
    cross = attention_flops(tokens, seen, text.width, images * seen, config.model.image.width)
    return text.depth * (layer_flops(tokens, text) + cross)


def training_flops(config: ConfigDict) -> float:
    """Forward and backward pass for one pair of a training batch.

    A backward pass takes twice its forward pass. The decoder scores three pairs for each: keys and
    values of the pair's image serve two of them. Words are predicted at one chunk of places.
    """
    from cada_jax.objective.losses import MASKED_CHUNK  # imports JAX

    text, length = config.model.text, config.data.max_length
    forward = image_flops(config) + caption_flops(config, length)
    if config.loss.atp_weight:
        forward += 3 * match_flops(config, length, images=2 / 3)
    if config.loss.ara_weight:
        places = min(MASKED_CHUNK, length)
        head = 2 * places * text.width * (text.width + text.vocab_size)
        forward += match_flops(config, length) + head
    return 3 * forward
