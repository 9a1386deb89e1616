"""The text side: one post-LN BERT that is text encoder and, given image tokens, decoder.

Source: BERT (Devlin et al., 2019) without token types; cross-attention between self-attention and
MLP as in BLIP (Li et al., 2022); the gate is CADA's ATP gate. LayerNorm epsilon 1e-12.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from cada_jax.common.shapes import AnyArray, Array, Bool, Float, Float32, Int, Int32
from cada_jax.distributed.batch import constrain_rows
from cada_jax.models.layers import MLP, AddAndNorm, Attention, Branch, Dense, LayerNorm, scanned
from cada_jax.models.ops import current_ops, plain, random_bits
from cada_jax.models.ops.plain import dropout, gelu

EPSILON = 1e-12
# BERT's value for "do not attend". exp(-10000) is exactly 0 in float32, so nothing leaks.
MASKED = -10000.0
STEM_REACH = 2  # tokens that the "conv" stem looks back; packed texts must lie as far apart
# Numbers by which seeds are folded: the embedding's, and those of layer i from 8 (i + 1) on.
EMBEDDING, LAYER = 0, 8


def attention_bias(valid: Bool[AnyArray, "M T"], causal: bool) -> Float32[Array, "M #T T"]:
    """Additive self-attention bias [M, 1 or T, T] from real-token flags bool [M, T]."""
    allowed = valid[:, None]
    if causal:
        allowed = allowed & jnp.tril(jnp.ones((valid.shape[1],) * 2, bool))[None]
    return jnp.where(allowed, 0.0, MASKED)


class Packed(NamedTuple):
    """Several texts in a row, one after another; at inference only.

    segments: int32 [M,T], which text of its row a token belongs to, -1 for padding; positions:
    int32 [M,T], of a token in its text; output_positions: int32 [M,t] in [0,T), the places that are
    read.
    """

    segments: Int32[Array, "M T"]
    positions: Int32[Array, "M T"]
    output_positions: Int32[Array, "M t"]


def packed_bias(segments: Int[AnyArray, "M T"]) -> Float32[Array, "M T T"]:
    """Additive self-attention bias [M, T, T]: a token attends its own text, int32 [M, T]."""
    return jnp.where(segments[:, :, None] == segments[:, None, :], 0.0, MASKED)


class TokenGate(nn.Module):
    """The ATP gate: how far a text token lets its associated patches in.

    g_t = 2 sigmoid(w . [h_t; c_t] + b) in (0, 2) with w = b = 0 at the start, so that
    g is exactly 1 and a model without gates computes the same numbers.
    """

    @nn.compact
    def __call__(
        self, token: Float[AnyArray, "M T D"], associated: Callable[[], Array]
    ) -> tuple[Float32[Array, "2*D 1"], Float32[Array, "1"]]:
        """Kernel and bias of `ops.plain.token_gate`.

        Args:
          token: float [M,T,D].
          associated: gives [M,T,D]; asked where somebody looks at the gate.
        """
        zeros = nn.initializers.zeros_init()
        kernel = self.param("kernel", zeros, (2 * token.shape[-1], 1))
        bias = self.param("bias", zeros, (1,))
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "gate", plain.token_gate(token, associated(), kernel, bias))
        return kernel, bias


def _dropped(ops: plain.Ops, branch: Branch, draw: random_bits.Draw | None) -> Array:
    return plain.dropout(ops.add_bias(*branch), draw)


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
        number: Int[AnyArray, ""] | int,
        bias: Float32[AnyArray, "M #T T"],
        image_tokens: Float[AnyArray, "B S Dv"] | None,
        image_index: Int[AnyArray, "G rows"] | None,
        seeds: Int[AnyArray, "M 2"] | None,
        output_positions: Int[AnyArray, "M t"] | None = None,
    ) -> tuple[Float[Array, "M _ D"], None]:
        """Returns (float [M,T,D], None), the pair `nn.scan` expects.

        Args:
          x: what the layer before returned.
          number: of the layer.
          bias: added to the self-attention scores.
          image_tokens: None for text alone.
          image_index: see `ops.plain.attention`; None: M / B rows after each other attend one
            image.
          seeds: for dropout.
          output_positions: the places to compute, [M,t,D]; the others are only attended.
        """

        def own(place):
            if seeds is None or not self.dropout:
                return None
            return random_bits.Draw(seeds, self.dropout, LAYER * (number + 1) + place)

        ops, attention = current_ops(), dict(heads=self.heads, dtype=self.dtype)
        seen = x
        if output_positions is not None:
            x = jnp.take_along_axis(x, output_positions[:, :, None], axis=1)
            bias = jnp.take_along_axis(bias, output_positions[:, :, None], axis=1)
        branch = Attention(**attention, name="attn")(x, seen, bias, draw=own(0))
        x = AddAndNorm(EPSILON, name="attn_norm")(x, branch, own(1))
        if image_tokens is not None:
            cross = Attention(**attention, name="cross", sow_as="cross_attention")
            branch, gate = cross(x, image_tokens, index=image_index, draw=own(2)), None
            if self.gated:
                dropped = functools.partial(_dropped, ops, branch, own(3))
                gate = TokenGate(name="gate")(x, dropped)
            x = AddAndNorm(EPSILON, name="cross_norm")(x, branch, own(3), gate)
        branch = MLP(self.mlp_dim, self.dtype, name="mlp")(x)
        x = AddAndNorm(EPSILON, name="mlp_norm")(x, branch, own(4))
        self.sow("intermediates", "hidden", x)
        return jnp.asarray(x), None


class ContextStem(nn.Module):
    """Shows each token the two (`STEM_REACH`) before it, [M,T,D] -> [M,T,D], before any attention.

    For small models trained on little data: to attend to a neighbour a layer must first learn what
    the positions mean, and until then "a red top and blue shoes" is a bag of words. It looks back
    only, so that padding cannot leak and a causal decoder stays causal. The full-size model does
    not use it.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[AnyArray, "M T D"]) -> Float[Array, "M T D"]:
        """Maps float [M,T,D] to float [M,T,D]."""
        reach = (1 + STEM_REACH,)
        conv = nn.Conv(x.shape[-1], reach, padding="CAUSAL", name="conv", dtype=self.dtype)
        return x + gelu(conv(x))


class Bert(nn.Module):
    """BERT over token ids, alone or attending image tokens with the same weights.

    Attributes mirror `config.model.text`; `gated` adds the ATP gate to every layer, `remat`
    is one of `layers.REMATS`.
    """

    vocab_size: int
    width: int
    depth: int
    heads: int
    mlp_dim: int
    max_positions: int
    dropout: float
    stem: str = "embed"
    gated: bool = False
    dtype: DTypeLike = jnp.float32
    remat: str = "off"

    def setup(self):
        """Makes embeddings and layers, under the names that checkpoints use."""
        init = nn.initializers.normal(0.02)
        self.word_embed = nn.Embed(self.vocab_size, self.width, embedding_init=init)
        self.pos_embed = nn.Embed(self.max_positions, self.width, embedding_init=init)
        self.embed_norm = LayerNorm(EPSILON, self.dtype)
        if self.stem == "conv":
            self.conv_stem = ContextStem(self.dtype)
        self.layers = scanned(TextLayer, self.depth, self.remat, (nn.broadcast,) * 4)(
            self.heads, self.mlp_dim, self.dropout, self.gated, self.dtype
        )

    def __call__(
        self,
        ids: Int[AnyArray, "M T"],
        valid: Bool[AnyArray, "M T"],
        image_tokens: Float[AnyArray, "B S Dv"] | None = None,
        image_index: Int[AnyArray, "G rows"] | None = None,
        causal: bool = False,
        seeds: Int[AnyArray, "M 2"] | None = None,
    ) -> Float[Array, "M T D"]:
        """Encodes token ids, attending `image_tokens` when given.

        Args:
          ids: in [0, vocab_size); T <= max_positions.
          valid: False for padding.
          image_tokens: None for text alone.
          image_index: see `ops.plain.attention`; None: M / B rows after each other attend one
            image.
          causal: token t attends tokens <= t only.
          seeds: of `random_bits.row_seeds`, for dropout; None drops nothing.
        """
        seeds = seeds if self.dropout else None
        x = self._embedded(ids, valid, jnp.arange(ids.shape[1])[None])
        if seeds is not None:
            x = dropout(x, random_bits.Draw(seeds, self.dropout, EMBEDDING))
        if self.stem == "conv":
            x = self.conv_stem(x)
        bias = attention_bias(valid, causal)
        x, _ = self.layers(
            x, np.arange(self.depth, dtype=np.int32), bias, image_tokens, image_index, seeds
        )
        return x

    def packed(
        self,
        ids: Int[AnyArray, "M T"],
        packed: Packed,
        image_tokens: Float[AnyArray, "B S Dv"],
    ) -> Float[Array, "M t D"]:
        """A call of rows that hold several texts each, without dropout or intermediates.

        Only the places that are read are returned, float [M,t,D]: the last layer computes no
        others. The scanned layers are all alike, so here they run one by one.
        """
        valid = packed.segments >= 0
        x = self._embedded(ids, valid, packed.positions)
        if self.stem == "conv":  # between two texts lies what lies before the first: nothing
            x = self.conv_stem(jnp.where(valid[:, :, None], x, 0.0))
        bias = packed_bias(packed.segments)
        sizes = self.heads, self.mlp_dim, self.dropout, self.gated, self.dtype
        layer = TextLayer(*sizes, parent=None)

        def run(i, x, output_positions=None):
            params = jax.tree.map(lambda leaf: leaf[i], self.variables["params"]["layers"])
            inputs = x, i, bias, image_tokens, None, None, output_positions
            return layer.apply({"params": params}, *inputs)[0]

        x = jax.lax.fori_loop(0, self.depth - 1, run, x)
        return run(self.depth - 1, x, packed.output_positions)

    def _embedded(self, ids, valid, positions):
        """Words and positions, normalised, [M,T,D]."""
        words = self.word_embed(ids)
        # As torch's padding_idx: the [PAD] row is an input like any other and is never trained.
        words = jnp.where(valid[:, :, None], words, jax.lax.stop_gradient(words))
        return self.embed_norm(constrain_rows(words + self.pos_embed(positions)))


class AttributeDecoder(nn.Module):
    """A Bert with a masked-word head whose output weight is its own word embedding."""

    bert_kwargs: Mapping[str, Any]
    dtype: DTypeLike = jnp.float32

    def setup(self):
        """Makes the parts, under the names that checkpoints use."""
        self.bert = Bert(**self.bert_kwargs, dtype=self.dtype)
        self.head = PredictionHead(self.dtype)

    def __call__(
        self,
        ids: Int[AnyArray, "B T"],
        valid: Bool[AnyArray, "B T"],
        image_tokens: Float[AnyArray, "I S Dv"],
        causal: bool,
        seeds: Int[AnyArray, "B 2"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Decodes ids int32 [B,T], valid bool [B,T] -> float [B,T,D]."""
        x = self.bert(ids, valid, image_tokens, causal=causal, seeds=seeds)
        self.sow("intermediates", "decoded", x)
        return x

    def predict(self, x: Float[AnyArray, "*rows D"]) -> Float32[Array, "*rows V"]:
        """Decoded tokens float [...,D] -> logits float32 [...,V]."""
        return self.head(x, self.bert.word_embed.embedding)


class PredictionHead(nn.Module):
    """BERT's masked-word head: dense, GELU, LayerNorm, tied output weight, bias."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "*rows D"], embedding: Float[AnyArray, "V D"]
    ) -> Float32[Array, "*rows V"]:
        """Maps float [...,D] and the word embedding [V,D] to logits float32 [...,V]."""
        x = gelu(Dense(x.shape[-1], self.dtype, name="dense")(x))
        x = LayerNorm(EPSILON, self.dtype, name="norm")(x)
        bias = self.param("bias", nn.initializers.zeros_init(), (embedding.shape[0],))
        rows = x.reshape(-1, x.shape[-1])
        logits = jnp.matmul(rows, embedding.T.astype(self.dtype)).astype(jnp.float32)
        return constrain_rows((logits + bias[None]).reshape(*x.shape[:-1], -1))
