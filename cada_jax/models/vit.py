"""The image encoder: a pre-LN Vision Transformer that keeps every patch token.

Source: ViT (Dosovitskiy et al., 2021) as BLIP and CADA use it: learned absolute
positions, a [CLS] token, a final LayerNorm, epsilon 1e-6, no dropout; the large size
has drop path.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.typing import DTypeLike

from cada_jax.common.shapes import Array, Float, Float32
from cada_jax.distributed.mesh import on_cpu
from cada_jax.models.attention import Attention
from cada_jax.models.cpu_layers import StridedConv
from cada_jax.models.layers import (
    MLP,
    DropPath,
    flat_dot_general,
    gelu,
    layer_norm,
    layers_in_one_go,
    rematerialized,
)

EPSILON = 1e-6
# 0.02 for the 16 x 16 x 3 values of a full-size patch, the same variance for other sizes.
PATCH_INIT = nn.initializers.variance_scaling(
    768 * 0.02**2, "fan_in", "normal", in_axis=(0, 1, 2), out_axis=3
)


def sinusoids(length: int, width: int) -> Float32[np.ndarray, "{length} {width}"]:
    """Sines and cosines of positions 0..length-1, float32 [length, width], wavelengths 6 to 190."""
    rates = 30.0 ** -(np.arange(width // 2) / (width // 2))
    angles = np.arange(length)[:, None] * rates[None]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def grid_positions(
    rows: int, columns: int, width: int
) -> Float32[np.ndarray, "1 1+{rows}*{columns} {width}"]:
    """Start of learned positions that tells rows and columns apart, float32 [1,1+N,width].

    For small models trained on little data. From small random positions they first settle on
    which colours an image has, whatever wears them, and take thousands of steps to leave that.
    """
    of_row = np.repeat(sinusoids(rows, width // 2), columns, axis=0)
    of_column = np.tile(sinusoids(columns, width // 2), (rows, 1))
    patches = np.concatenate([of_row, of_column], axis=1)
    return np.concatenate([np.zeros((1, width), np.float32), patches])[None]


class PatchEmbed(nn.Module):
    """Cuts an image into patches and maps each linearly, [B,H,W,C] -> [B,N,D].

    The same numbers as a convolution whose stride is its kernel, as one matrix product.
    Patches are in row-major order.
    """

    patch: tuple[int, int]
    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "B H W C"]) -> Float[Array, "B N D"]:
        """Maps float [B,H,W,C] to float [B,(H/ph)*(W/pw),D]."""
        ph, pw = self.patch
        kernel = self.param(
            "kernel",
            PATCH_INIT,
            (ph, pw, images.shape[-1], self.width),
        )
        bias = self.param("bias", nn.initializers.zeros_init(), (self.width,))
        patches = rearrange(images, "b (h p) (w q) c -> b (h w) (p q c)", p=ph, q=pw)
        kernel = kernel.reshape(-1, self.width).astype(self.dtype)
        dims = (((2,), (0,)), ((), ()))
        out = flat_dot_general(patches.astype(self.dtype), kernel, dims)
        return out + bias.astype(self.dtype)[None, None]


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
        """Maps float [B,H,W,3] to float [B,H/4,W/4,features[-1]]."""
        x = images
        for i, features in enumerate(self.features):
            if on_cpu() and x.shape[1] % 2 == x.shape[2] % 2 == 0:
                conv = StridedConv(features, self.dtype, name=f"conv{i}")
            else:
                conv = nn.Conv(features, (3, 3), strides=2, name=f"conv{i}", dtype=self.dtype)
            x = gelu(conv(x))
        return x


class Block(nn.Module):
    """One pre-LN transformer layer with drop path, [B,T,D] -> [B,T,D]."""

    heads: int
    mlp_dim: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], drop_rate: Float32[Array, ""], deterministic: bool
    ) -> tuple[Float[Array, "B T D"], None]:
        """Returns (float [B,T,D], None), the pair `nn.scan` expects; drop_rate: scalar."""

        def branch(y):
            return y if deterministic else DropPath()(y, drop_rate)

        y = layer_norm("norm1", EPSILON, self.dtype)(x)
        x = x + branch(Attention(self.heads, dtype=self.dtype, name="attn")(y, y))
        y = layer_norm("norm2", EPSILON, self.dtype)(x)
        x = x + branch(MLP(self.mlp_dim, self.dtype, name="mlp")(y))
        self.sow("intermediates", "hidden", x)
        return x, None


class ImageEncoder(nn.Module):
    """ViT over normalised images; position 0 of the output is [CLS].

    Attributes mirror `config.model.image`; `remat` is one of `layers.REMATS`.
    """

    size: tuple[int, int]
    patch: tuple[int, int]
    stem: str
    width: int
    depth: int
    heads: int
    mlp_dim: int
    drop_path: float = 0.0
    dtype: DTypeLike = jnp.float32
    remat: str = "off"

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W 3"], deterministic: bool = True
    ) -> Float[Array, "B S D"]:
        """Encodes float [B,H,W,3] to float [B,1+N,D], N patches in row-major order.

        Raises:
          ValueError: the images are not of the size the positions were made for.
        """
        if images.shape[1:3] != tuple(self.size):
            raise ValueError(
                f"images are {images.shape[1]}x{images.shape[2]}, the model expects "
                f"{self.size[0]}x{self.size[1]} (config.data.image_size)"
            )
        ph, pw = self.patch
        init = nn.initializers.truncated_normal(0.02)
        start = init
        if self.stem == "conv":
            grid = grid_positions(self.size[0] // ph, self.size[1] // pw, self.width)
            start = lambda key, shape: jnp.asarray(grid).reshape(shape)  # noqa: E731
            stem = ConvStem((self.width // 4, self.width // 2), self.dtype, name="stem")
            x = PatchEmbed((ph // 4, pw // 4), self.width, self.dtype, name="patch_embed")(
                stem(images)
            )
        else:
            x = PatchEmbed((ph, pw), self.width, self.dtype, name="patch_embed")(images)
        cls = self.param("cls_token", init, (1, 1, self.width)).astype(self.dtype)
        positions = self.param("pos_embed", start, (1, x.shape[1] + 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], 1, self.width)), x], axis=1)
        x = x + positions.astype(self.dtype)
        block = rematerialized(Block, self.remat, static_argnums=(3,))
        rates = jnp.asarray(np.linspace(0.0, self.drop_path, self.depth), jnp.float32)
        blocks = nn.scan(
            block,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, nn.broadcast),
            length=self.depth,
            unroll=layers_in_one_go(self.depth),
        )(self.heads, self.mlp_dim, self.dtype, name="blocks")
        x, _ = blocks(x, rates, deterministic or self.drop_path == 0.0)
        return layer_norm("norm", EPSILON, self.dtype)(x)
