"""The small model's first convolution as a CPU computes it fastest: as one matrix product.

XLA's convolution of three channels took the CPU several times as long, as did its gradient. With 24
channels it is no slower, since the windows to be multiplied are then much to write. The numbers
and the parameters are those of `nn.Conv`.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from cada_jax.common.shapes import AnyArray, Array, Float
from cada_jax.models.layers import flat_dot_general


def strided_windows(x: Float[AnyArray, "B H W C"]) -> Float[Array, "B H//2 W//2 9*C"]:
    """The 3x3 windows of a convolution of stride 2 with "SAME" padding, for even H and W.

    Args:
      x: float [B,H,W,C].

    Returns:
      float [B,H/2,W/2,9C]: the window at (2i, 2j), row by row, each pixel's channels together.
      What lies below and right of the image is 0.
    """
    batch, height, width, channels = x.shape
    # Columns first: pixels 2j and 2j+1 lie together in memory, and only 2j+2 is fetched.
    pairs = x.reshape(batch, height, width // 2, 2 * channels)
    third = jnp.pad(pairs[:, :, 1:, :channels], ((0, 0), (0, 0), (0, 1), (0, 0)))
    rows = jnp.concatenate([pairs, third], axis=3)
    rows = rows.reshape(batch, height // 2, 2, width // 2, 3 * channels)
    below = jnp.pad(rows[:, 1:, 0], ((0, 0), (0, 1), (0, 0), (0, 0)))
    return jnp.concatenate([rows[:, :, 0], rows[:, :, 1], below], axis=3)


class StridedConv(nn.Module):
    """`nn.Conv(features, (3, 3), strides=2)`, [B,H,W,C] -> [B,H/2,W/2,features]."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B H W C"]) -> Float[Array, "B H//2 W//2 F"]:
        """Maps float [B,H,W,C], H and W even."""
        lecun, zeros = nn.initializers.lecun_normal(), nn.initializers.zeros_init()
        kernel = self.param("kernel", lecun, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", zeros, (self.features,))
        kernel = kernel.reshape(-1, self.features).astype(self.dtype)
        dims = (((3,), (0,)), ((), ()))
        out = flat_dot_general(strided_windows(x).astype(self.dtype), kernel, dims)
        return out + bias.astype(self.dtype)[None, None, None]
