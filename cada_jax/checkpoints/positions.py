"""Learned position embeddings on another patch grid.

The kernel is torch's bicubic (a = -0.75, half-pixel centres, no antialiasing, edge
pixels repeated), which the authors' code uses. `jax.image.resize` has a = -0.5 and antialiases
when it shrinks, so it gives other numbers.
"""

import numpy as np

A = -0.75


def _kernel(distance: np.ndarray) -> np.ndarray:
    """The cubic convolution kernel (Keys, 1981) at distances of 0 to 2 pixels."""
    d = np.abs(distance)
    near = ((A + 2) * d - (A + 3)) * d * d + 1
    far = ((A * d - 5 * A) * d + 8 * A) * d - 4 * A
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _weights(source: int, target: int) -> np.ndarray:
    """float64 [target, source]: what every source pixel gives to every target pixel."""
    # torch computes the centres in float32, and their rounding is the largest one in the result.
    scale = np.float64(np.float32(source / target))
    centres = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(centres).astype(int)
    weights = np.zeros((target, source))
    for tap in range(-1, 3):
        index = first + tap
        np.add.at(
            weights,
            (np.arange(target), np.clip(index, 0, source - 1)),
            _kernel(centres.astype(np.float64) - index),
        )
    return weights


def resize_positions(
    positions: np.ndarray, source: tuple[int, int], target: tuple[int, int]
) -> np.ndarray:
    """Position embeddings float [1,1+h*w,D] of one patch grid, resized to another.

    The [CLS] position comes first and stays; patches are in row-major order.

    Raises:
      ValueError: `positions` has not 1 + h*w rows.
    """
    if positions.shape[1] != 1 + source[0] * source[1]:
        raise ValueError(
            f"position embeddings of shape {positions.shape} do not belong to a grid of "
            f"{source[0]}x{source[1]} patches and [CLS]"
        )
    if tuple(source) == tuple(target):
        return positions
    cls, patches = positions[:, :1], positions[0, 1:]
    patches = patches.reshape(*source, -1).astype(np.float64)
    rows, columns = _weights(source[0], target[0]), _weights(source[1], target[1])
    resized = np.einsum("Hh,Ww,hwd->HWd", rows, columns, patches, optimize=True)
    resized = resized.reshape(1, target[0] * target[1], -1).astype(positions.dtype)
    return np.concatenate([cls, resized], axis=1)


def find_grid(rows: int, target: tuple[int, int]) -> tuple[int, int]:
    """The (h, w) of a position embedding of `rows` patches whose grid nobody stored.

    As many as `target` has are taken to be that grid. Any other number can only be a square, as in
    the authors' models. 144 patches are 12x12 and 24x6, so a caller that knows the grid does not
    ask here.

    Raises:
      ValueError: it is neither.
    """
    if rows == target[0] * target[1]:
        return target
    side = round(max(rows, 0) ** 0.5)
    if rows > 0 and side * side == rows:
        return side, side
    raise ValueError(
        f"{rows} position embeddings are neither a square grid nor the wanted "
        f"{target[0]}x{target[1]}"
    )
