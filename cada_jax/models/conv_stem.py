"""Two strided convolutions before the patches of a small image encoder."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from cada_jax.common.shapes import AnyArray, Array, Float
from cada_jax.models.ops.plain import gelu


class ConvStem(nn.Module):
    """Two strided 3x3 convolutions, [B,H,W,3] -> [B,H/4,W/4,C].

    For small models trained on little data: a linear map of raw patches learns colour and
    shape much later. No normalisation on purpose: it divides brightness and saturation out, and
    the global loss then took ten times the steps. The full-size model does not use it.
    """

    features: tuple[int, int]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B H//4 W//4 C"]:
        """Maps float [B,H,W,3], H and W multiples of 4, to float [B,H/4,W/4,features[-1]]."""
        x = images
        for i, features in enumerate(self.features):
            x = gelu(StridedConv(features, self.dtype, name=f"conv{i}")(x))
        return x


class StridedConv(nn.Module):
    """`nn.Conv(features, (3, 3), strides=2)` of even H and W, as one product of windows.

    A CPU computes that product and its gradient faster than a convolution of few channels.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B H W C"]) -> Float[Array, "B H//2 W//2 F"]:
        """Maps float [B,H,W,C] to float [B,H/2,W/2,F]."""
        lecun, zeros = nn.initializers.lecun_normal(), nn.initializers.zeros_init()
        kernel = self.param("kernel", lecun, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", zeros, (self.features,))
        batch, height, width, _ = x.shape
        weights = kernel.reshape(-1, self.features).astype(self.dtype)
        out = windows(x.astype(self.dtype)) @ weights + bias.astype(self.dtype)[None]
        return out.reshape(batch, height // 2, width // 2, -1)


def windows(x: Float[AnyArray, "B H W C"]) -> Float[Array, "_ 9*C"]:
    """The pixels under a 3 x 3 kernel at every second pixel, place after place.

    What lies below and right of the image is 0: "SAME".
    """
    _, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    places = [(row, column) for row in range(3) for column in range(3)]
    seen = [x[:, row : row + height : 2, column : column + width : 2] for row, column in places]
    return jnp.concatenate(seen, axis=-1).reshape(-1, 9 * channels)
