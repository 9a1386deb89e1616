"""What leaving the gate out of a model costs, which the authors' decoder does not have."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cada_jax.models.cada import from_config

IMAGES = 8


def gate_cost(params: dict, config: ConfigDict, pairs: int = 64) -> str:
    """How far the match logits of random images and texts move when the gate is left out.

    Args:
      params: nested arrays of the whole model.
      config: full config.
      pairs: of random images and texts.

    Returns:
      A sentence or two for the user.
    """
    layers = params["text_encoder"]["layers"]
    if "gate" not in layers:
        return "The model has no gate; nothing is lost."
    open_gate = layers | {"gate": jax.tree.map(np.zeros_like, layers["gate"])}
    without = params | {"text_encoder": params["text_encoder"] | {"layers": open_gate}}
    logits = _logits(config, pairs)
    before, after = np.asarray(logits(params)), np.asarray(logits(without))
    moved = np.abs(after - before)
    order = np.corrcoef(np.argsort(np.argsort(before)), np.argsort(np.argsort(after)))[0, 1]
    return (
        f"Without its gate, on {pairs} random image-text pairs, the match logit moves by "
        f"{moved.mean():.3g} on average, {moved.max():.3g} at most; its standard deviation over "
        f"pairs is {before.std():.3g}. Rank correlation of the two: {order:.4f}."
    )


def _logits(config: ConfigDict, pairs: int):
    """A compiled function of params to the match logits float32 [pairs] of fixed random pairs."""
    rng = np.random.default_rng(0)
    length, tokens = config.data.max_length, config.model.tokens
    words = np.setdiff1d(np.arange(config.model.text.vocab_size), list(tokens.values()))
    token_ids = rng.choice(words, (pairs, length)).astype(np.int32)
    ends = rng.integers(length // 3, length, pairs)
    token_ids[np.arange(pairs), ends] = tokens.sep
    token_ids[np.arange(length)[None] > ends[:, None]] = tokens.pad
    token_ids[:, 0] = tokens.cls
    images = rng.standard_normal((IMAGES, *config.model.image.size, 3)).astype(np.float32)
    model = from_config(config)
    index = np.arange(pairs, dtype=np.int32) % IMAGES

    @jax.jit
    def logits(params):
        image_tokens = model.apply({"params": params}, images, method="encode_image")
        decoded = model.apply({"params": params}, token_ids, image_tokens, index, method="decode")
        scores = jnp.asarray(model.apply({"params": params}, decoded, method="match"))
        return scores[:, 1]

    return logits
