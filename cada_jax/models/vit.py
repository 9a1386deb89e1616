"""The image encoder: a pre-LN Vision Transformer that keeps every patch token.

Source: ViT (Dosovitskiy et al., 2021) as BLIP and CADA use it: learned absolute positions, a [CLS]
token, a final LayerNorm, epsilon 1e-6, no dropout; the large size has drop path.

An image encoder returns what the embedding is projected from, [B,D], and the tokens that texts
attend, [B,S,D], whose last ones are the patches in row-major order. Nothing else is known of it.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.typing import DTypeLike

from cada_jax.common.shapes import AnyArray, Array, Float, Float32, Int
from cada_jax.models.conv_stem import ConvStem
from cada_jax.models.layers import (
    MLP,
    AddAndNorm,
    Attention,
    Branch,
    SumAndNorm,
    drop_path,
    scanned,
)
from cada_jax.models.ops import current_ops, random_bits

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


def patch_grid(image) -> tuple[int, int]:
    """The (rows, columns) of patches that `config.model.image` describes, by size and patch."""
    return tuple(size // patch for size, patch in zip(image.size, image.patch, strict=True))


class PatchEmbed(nn.Module):
    """Cuts an image into patches and maps each linearly, [B,H,W,C] -> [B,N,D].

    The same numbers as a convolution whose stride is its kernel, as one matrix product.
    """

    patch: tuple[int, int]
    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "B H W C"]) -> Float[Array, "B N D"]:
        """Maps float [B,H,W,C] to float [B,(H/ph)*(W/pw),D]."""
        ph, pw = self.patch
        kernel = self.param("kernel", PATCH_INIT, (ph, pw, images.shape[-1], self.width))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.width,))
        patches = rearrange(images, "b (h p) (w q) c -> b (h w) (p q c)", p=ph, q=pw)
        return current_ops().dense(patches.astype(self.dtype), kernel.reshape(-1, self.width), bias)


class Block(nn.Module):
    """One pre-LN transformer layer with drop path, [B,T,D] -> [B,T,D]."""

    heads: int
    mlp_dim: int
    dtype: DTypeLike = jnp.float32
    norm_epsilon: float = EPSILON

    @nn.compact
    def __call__(
        self,
        carry: tuple[Float[Array, "B T D"], Branch],
        number: Int[Array, ""],
        drop_rate: Float32[Array, ""],
        seeds: Int[AnyArray, "B 2"] | None,
    ) -> tuple[tuple[Float[Array, "B T D"], Branch], None]:
        """Returns (carry, None), the pair `nn.scan` expects.

        Args:
          carry: float [B,T,D], and the branch before that is still to be added to it: a norm reads
            both at once.
          number: of the layer.
          drop_rate: of drop path.
          seeds: int32 [B,2], for drop path.
        """
        ops = current_ops()

        def dropped(branch, place):
            if seeds is None:
                return branch
            own = random_bits.fold(seeds, 2 * number + place)
            return drop_path(ops.add_bias(*branch), own, drop_rate), jnp.zeros_like(branch[1])

        x, y = SumAndNorm(self.norm_epsilon, name="norm1")(*carry)
        branch = dropped(Attention(self.heads, dtype=self.dtype, name="attn")(y, y), 0)
        x, y = SumAndNorm(self.norm_epsilon, name="norm2")(x, branch)
        branch = dropped(MLP(self.mlp_dim, self.dtype, name="mlp")(y), 1)
        self.sow("intermediates", "hidden", x + ops.add_bias(*branch))
        return (x, branch), None


class ImageEncoder(nn.Module):
    """ViT over normalised images.

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
    norm_epsilon: float = EPSILON
    dtype: DTypeLike = jnp.float32
    remat: str = "off"

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W 3"], seeds: Int[AnyArray, "B 2"] | None = None
    ) -> tuple[Float[Array, "B D"], Float[Array, "B S D"]]:
        """Encodes float [B,H,W,3] to [CLS], float [B,D], and all tokens, float [B,1+N,D].

        Args:
          images: of the size that the positions were made for.
          seeds: int32 [B,2], for drop path.

        Raises:
          ValueError: the images are of another size.
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
            images = ConvStem((self.width // 4, self.width // 2), self.dtype, name="stem")(images)
            ph, pw = ph // 4, pw // 4
        x = PatchEmbed((ph, pw), self.width, self.dtype, name="patch_embed")(images)
        cls = self.param("cls_token", init, (1, 1, self.width)).astype(self.dtype)
        positions = self.param("pos_embed", start, (1, x.shape[1] + 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], 1, self.width)), x], axis=1)
        x = x + positions.astype(self.dtype)
        blocks = scanned(Block, self.depth, self.remat, (0, nn.broadcast))(
            self.heads, self.mlp_dim, self.dtype, self.norm_epsilon, name="blocks"
        )
        rates = jnp.asarray(np.linspace(0.0, self.drop_path, self.depth), jnp.float32)
        carry = x, (jnp.zeros_like(x), jnp.zeros(self.width))
        carry, _ = blocks(
            carry, np.arange(self.depth, dtype=np.int32), rates, seeds if self.drop_path else None
        )
        x = AddAndNorm(self.norm_epsilon, name="norm")(*carry)
        return x[:, 0], x
