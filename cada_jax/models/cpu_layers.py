"""The small model's convolutions as a CPU computes them fastest; the numbers are `nn.Conv`'s.

XLA's convolution of three channels took the CPU several times as long as one matrix product, as did
its gradient. With 24 channels the convolution itself is no slower, since the windows to be
multiplied are then much to write; but the gradient of its kernel took a twentieth of a training
step, and takes a third of that as nine products.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from cada_jax.common.shapes import AnyArray, Array, Float
from cada_jax.models.layers import flat_dot_general

FEW_CHANNELS = 8  # up to so many, windows are little to write


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


def _convolved(x, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=layout)


@jax.custom_vjp
def strided_conv(
    x: Float[AnyArray, "B H W C"], kernel: Float[AnyArray, "3 3 C F"]
) -> Float[Array, "B H//2 W//2 F"]:
    """A convolution of stride 2 with "SAME" padding, for even H and W; its gradient is our own.

    Args:
      x: float [B,H,W,C].
      kernel: float [3,3,C,F] of the same type.

    Returns:
      float [B,H/2,W/2,F].
    """
    return _convolved(x, kernel)


def _forward(x, kernel):
    return _convolved(x, kernel), (x, kernel)


def _backward(kept, grad):
    x, kernel = kept
    (of_x,) = jax.linear_transpose(lambda x: _convolved(x, kernel), x)(grad)
    batch, height, width, channels = x.shape
    phases = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    columns = grad.reshape(-1, grad.shape[-1])

    def of_place(row, column):
        """Gradient of kernel[row, column], [C,F]: the pixels under it times the output's."""
        pixels = phases[:, :, row % 2, :, column % 2]
        below, right = row // 2, column // 2  # the third row and column are the next window's first
        pixels = jnp.pad(pixels[:, below:, right:], ((0, 0), (0, below), (0, right), (0, 0)))
        return pixels.reshape(-1, channels).T @ columns

    of_kernel = [of_place(row, column) for row in range(3) for column in range(3)]
    return of_x, jnp.stack(of_kernel).reshape(kernel.shape)


strided_conv.defvjp(_forward, _backward)


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
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if x.shape[-1] <= FEW_CHANNELS:
            dims = (((3,), (0,)), ((), ()))
            out = flat_dot_general(strided_windows(x), kernel.reshape(-1, self.features), dims)
        else:
            out = strided_conv(x, kernel)
        return out + bias.astype(self.dtype)[None, None, None]
