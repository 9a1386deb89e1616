"""Floating-point operations of each part, by count: two for a multiplication and its addition.

Matrix products only; normalisation, softmax, GELU and dropout are left out, as is usual when a
share of the product ceiling (MFU) is given. M texts of L tokens, B images of S tokens.
"""

from ml_collections import ConfigDict


def _side(width: int, mlp: int, tokens: int) -> int:
    """Query, key, value and output maps, MLP and attention of one layer over one row."""
    return tokens * (8 * width**2 + 4 * width * mlp) + 4 * tokens**2 * width


def image_tokens(config: ConfigDict) -> int:
    """Patches and [CLS]."""
    (height, width), (ph, pw) = config.model.image.size, config.model.image.patch
    return 1 + (height // ph) * (width // pw)


def encode_image(config: ConfigDict, images: int) -> int:
    """The image encoder over `images` images."""
    c = config.model.image
    tokens = image_tokens(config)
    patches = 2 * (tokens - 1) * c.patch[0] * c.patch[1] * 3 * c.width
    return images * (patches + c.depth * _side(c.width, c.mlp_dim, tokens))


def encode_text(config: ConfigDict, texts: int, length: int) -> int:
    """The text encoder over `texts` texts of `length` tokens."""
    c = config.model.text
    return texts * c.depth * _side(c.width, c.mlp_dim, length)


def decode(config: ConfigDict, texts: int, length: int, images: int) -> int:
    """The decoder over `texts` texts, with keys and values of `images` images computed.

    Args:
      config: full config.
      texts: M.
      length: L.
      images: how often keys and values are computed: M without sharing.
    """
    c = config.model.text
    seen, width, source = image_tokens(config), c.width, config.model.image.width
    keys_values = images * c.depth * 4 * seen * source * width
    cross = texts * c.depth * (length * 4 * width**2 + 4 * length * seen * width)
    return encode_text(config, texts, length) + cross + keys_values


def predict_masked(config: ConfigDict, texts: int, length: int, logits: int) -> int:
    """The attribute decoder over `texts` captions, with vocabulary logits at `logits` positions."""
    c = config.model.text
    head = logits * (2 * c.width**2 + 2 * c.width * c.vocab_size)
    return decode(config, texts, length, texts) + head


def train_step(config: ConfigDict, pairs: int, length: int, logits: int) -> int:
    """A whole training step, the backward pass counted as two forward passes.

    Args:
      config: full config.
      pairs: B.
      length: L, padding included.
      logits: positions with vocabulary logits.
    """
    forward = encode_image(config, pairs) + encode_text(config, pairs, length)
    forward += decode(config, 3 * pairs, length, pairs)  # keys and values once an image
    return 3 * (forward + predict_masked(config, pairs, length, logits))
