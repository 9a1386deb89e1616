"""One layer of the text side, in two parts: what it does before an image comes in, and with one."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from cada_jax.common.shapes import AnyArray, Array, Float, Int
from cada_jax.models.attention import Attention
from cada_jax.models.dropout import dropout
from cada_jax.models.layers import MLP, TokenGate, layer_norm

EPSILON = 1e-12
WHOLE, TEXT, IMAGE = "whole", "text", "image"  # parts of a layer


class TextLayer(nn.Module):
    """Self-attention, cross-attention to an image if one is given, MLP; each post-LN."""

    heads: int
    mlp_dim: int
    dropout: float
    gated: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[AnyArray, "M T D"],
        bias: Float[AnyArray, "M 1 #T T"] | None,
        image_tokens: Float[AnyArray, "B S Dv"] | None,
        image_index: Int[AnyArray, "M"] | Int[AnyArray, "G rows"] | None,
        deterministic: bool,
        output_positions: Int[AnyArray, "M t"] | None = None,
        part: str = WHOLE,
    ) -> tuple[Float[Array, "M _ D"], None]:
        """Returns (float [M,T,D], None), the pair `nn.scan` expects.

        Args:
          x: float [M,T,D].
          bias: float [M,1,T or 1,T], added to the self-attention scores.
          image_tokens: float [B,S,Dv], or None for text alone.
          image_index: int32 [M], the image of each row; None: M / B rows after each other each.
          deterministic: no dropout.
          output_positions: int32 [M,t], the places to compute, [M,t,D]; the others are only
            attended.
          part: the whole layer; or `TEXT`, self-attention alone; or `IMAGE`, all that follows it.
        """
        drop = dropout(self.dropout, deterministic)
        attention = dict(heads=self.heads, dropout=self.dropout, dtype=self.dtype)
        if part != IMAGE:
            seen = x
            if output_positions is not None and bias is not None:
                x = jnp.take_along_axis(x, output_positions[:, :, None], axis=1)
                bias = jnp.take_along_axis(bias, output_positions[:, None, :, None], axis=2)
            y = Attention(**attention, name="attn")(x, seen, bias, deterministic=deterministic)
            x = layer_norm("attn_norm", EPSILON, self.dtype)(x + drop(y))
        if part == TEXT:
            return jnp.asarray(x), None
        if image_tokens is not None:
            cross = Attention(**attention, name="cross", sow_as="cross_attention")
            y = drop(cross(x, image_tokens, None, image_index, deterministic))
            if self.gated:
                y = TokenGate(self.dtype, name="gate")(x, y)
            x = layer_norm("cross_norm", EPSILON, self.dtype)(x + y)
        y = drop(MLP(self.mlp_dim, self.dtype, name="mlp")(x))
        x = layer_norm("mlp_norm", EPSILON, self.dtype)(x + y)
        self.sow("intermediates", "hidden", x)
        return jnp.asarray(x), None
