"""Cuts padding off captions: lengths in few steps, so that few programs are compiled.

Padding changes no result of the encoders and decoders (nothing attends it), so a batch need only be
as long as its longest caption.
"""

import numpy as np
from ml_collections import ConfigDict

# Coarser in training, whose program takes long to compile, than where captions are only read.
TRAIN_STEP = 16
READ_STEP = 8


def rounded_lengths(token_ids: np.ndarray, pad: int, step: int) -> np.ndarray:
    """Tokens of each caption without its padding, rounded up to a multiple of `step`.

    Args:
      token_ids: int [M,L], padding at the end of a row only.

    Returns:
      int [M], at most L.
    """
    width = token_ids.shape[1]
    # The last token that is not padding, whatever stands before it.
    real = width - np.argmax(token_ids[:, ::-1] != pad, axis=1)
    real = np.where((token_ids != pad).any(axis=1), real, 1)
    return np.minimum(-(-real // step) * step, width)


def padding_matters(config: ConfigDict) -> bool:
    """Whether the losses read padding: the released code's group means do."""
    return config.atp.group_pool == "all"


def batch_length(token_ids: np.ndarray, config: ConfigDict) -> int:
    """Tokens to keep of each caption of a training batch: what its longest one needs, rounded up.

    Where padding matters the batch stays whole.

    Args:
      token_ids: int32 [B,L], the global batch, so that all hosts keep the same.
    """
    if padding_matters(config):
        return token_ids.shape[1]
    return int(rounded_lengths(token_ids, config.model.tokens.pad, TRAIN_STEP).max())


def cut_batch(batch: dict[str, np.ndarray], length: int) -> dict[str, np.ndarray]:
    """Cuts a training batch's captions to `length` tokens, from `batch_length`.

    The losses and gradients stay what they are, but for the draws of dropout and masks, whose
    random numbers depend on the shape.

    Args:
      batch: train batch, token_ids int32 [B,L]; all [B,L] arrays are cut.
      length: at most L.
    """
    shape = batch["token_ids"].shape
    return {name: x[:, :length] if x.shape == shape else x for name, x in batch.items()}
