"""The text side: one post-LN BERT that is text encoder and, given image tokens, decoder.

Source: BERT (Devlin et al., 2019) without token types; cross-attention between
self-attention and MLP as in BLIP (Li et al., 2022); the gate is CADA's ATP gate.
LayerNorm epsilon 1e-12.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from cada_jax.common.shapes import AnyArray, Array, Bool, Float, Float32, Int, Int32
from cada_jax.distributed.batch import constrain_rows
from cada_jax.models.attention import MASKED
from cada_jax.models.dropout import dropout
from cada_jax.models.layers import dense, gelu, layer_norm, layers_in_one_go, rematerialized
from cada_jax.models.text_layer import EPSILON, IMAGE, TEXT, WHOLE, TextLayer

STEM_REACH = 2  # tokens that the "conv" stem looks back; packed texts must lie as far apart


def attention_bias(valid: Bool[AnyArray, "M T"], causal: bool) -> Float32[Array, "M 1 #T T"]:
    """Additive self-attention bias [M, 1, T or 1, T] from real-token flags bool [M, T]."""
    allowed = valid[:, None, None, :]
    if causal:
        steps = valid.shape[1]
        lower = jnp.tril(jnp.ones((steps, steps), bool))
        allowed = allowed & lower[None, None]
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


def packed_bias(segments: Int[AnyArray, "M T"]) -> Float32[Array, "M 1 T T"]:
    """Additive self-attention bias [M, 1, T, T]: a token attends its own text, int32 [M, T]."""
    return jnp.where(segments[:, None, :, None] == segments[:, None, None, :], 0.0, MASKED)


class ConvStem(nn.Module):
    """Shows each token the two (`STEM_REACH`) before it, [M,T,D] -> [M,T,D], before any attention.

    For small models trained on little data: to attend to a neighbour a layer must first learn
    what the positions mean, and until then "a red top and blue shoes" is a bag of words. It looks
    back only, so that padding cannot leak and a causal decoder stays causal. The full-size
    model does not use it.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[AnyArray, "M T D"]) -> Float[Array, "M T D"]:
        """Maps float [M,T,D] to float [M,T,D]."""
        conv = nn.Conv(
            x.shape[-1], (1 + STEM_REACH,), padding="CAUSAL", name="conv", dtype=self.dtype
        )
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
        self.embed_norm = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, use_fast_variance=False)
        self.embed_dropout = dropout(self.dropout)
        if self.stem == "conv":
            self.conv_stem = ConvStem(self.dtype)
        layer = rematerialized(TextLayer, self.remat, static_argnums=(5,))
        self.layers = nn.scan(
            layer,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=self.depth,
            unroll=layers_in_one_go(self.depth),
        )(self.heads, self.mlp_dim, self.dropout, self.gated, self.dtype)

    def __call__(
        self,
        ids: Int[AnyArray, "M T"],
        valid: Bool[AnyArray, "M T"],
        image_tokens: Float[AnyArray, "B S Dv"] | None = None,
        image_index: Int[AnyArray, "M"] | Int[AnyArray, "G rows"] | None = None,
        causal: bool = False,
        deterministic: bool = True,
        packed: Packed | None = None,
    ) -> Float[Array, "M _ D"]:
        """Encodes token ids, attending `image_tokens` when given.

        Args:
          ids: int32 [M,T] in [0, vocab_size), T <= max_positions.
          valid: bool [M,T], False for padding.
          image_tokens: float [B,S,Dv] or None.
          image_index: int32 [M] in [0,B), the image of each row; None: M / B rows after each other
            attend one image.
          causal: token t attends tokens <= t only.
          deterministic: no dropout.
          packed: rows that hold several texts, T without limit; only the places it wants are
            returned, [M,t,D], for which the last layer need not compute the others. For
            inference: not with `causal`, dropout or intermediates.

        Returns:
          float [M,T,D].
        """
        x = self._embedded(ids, valid, deterministic, packed)
        if packed is not None:
            bias = packed_bias(packed.segments)
            return self._outputs_of_last(x, bias, image_tokens, packed.output_positions)
        bias = attention_bias(valid, causal)
        x, _ = self.layers(x, bias, image_tokens, image_index, deterministic)
        return x

    def _embedded(self, ids, valid, deterministic, packed=None):
        """What the layers start from: words, positions, norm, dropout and stem, [M,T,D]."""
        positions = jnp.arange(ids.shape[1])[None] if packed is None else packed.positions
        words = self.word_embed(ids)
        # As torch's padding_idx: the [PAD] row is an input like any other and is never trained.
        words = jnp.where(valid[:, :, None], words, jax.lax.stop_gradient(words))
        x = constrain_rows(words + self.pos_embed(positions))
        x = self.embed_norm(x)
        x = self.embed_dropout(x, deterministic=deterministic)
        if self.stem == "conv":
            if packed is not None:  # between two texts lies what lies before the first: nothing
                x = jnp.where(valid[:, :, None], x, 0.0)
            x = self.conv_stem(x)
        return x

    def _outputs_of_last(self, x, bias, image_tokens, output_positions):
        """The same layers, one by one: the scanned ones are all alike and the last one is not."""

        def run(i, x, output_positions=None):
            return self._layer(i, x, bias, image_tokens, None, output_positions)

        x = jax.lax.fori_loop(0, self.depth - 1, run, x)
        return run(self.depth - 1, x, output_positions)

    def _layer(self, i, x, bias, image_tokens, image_index, output_positions=None, part=WHOLE):
        """Layer i, by itself and without dropout, or a part of it; see `TextLayer`."""
        params = jax.tree.map(lambda leaf: leaf[i], self.variables["params"]["layers"])
        layer = TextLayer(
            self.heads, self.mlp_dim, self.dropout, self.gated, self.dtype, parent=None
        )
        inputs = x, bias, image_tokens, image_index, True, output_positions, part
        return layer.apply({"params": params}, *inputs)[0]

    def attend_text(self, ids: Int[AnyArray, "M T"], valid: Bool[AnyArray, "M T"]):
        """What comes before an image: embedding and the first self-attention, float [M,T,D].

        `attend_images` goes on from there. The two compute what a call does, without dropout or
        intermediates, and a text that meets several images need be attended once.

        Args:
          ids: int32 [M,T].
          valid: bool [M,T].
        """
        x = self._embedded(ids, valid, True)
        return self._layer(0, x, attention_bias(valid, False), None, None, part=TEXT)

    def attend_images(
        self,
        x: Float[AnyArray, "M T D"],
        bias: Float[AnyArray, "M 1 #T T"],
        image_tokens: Float[AnyArray, "B S Dv"] | None,
        image_index: Int[AnyArray, "M"] | None = None,
        output_positions: Int[AnyArray, "M t"] | None = None,
    ) -> Float[Array, "M _ D"]:
        """All that follows `attend_text`, with images or without; arguments as of `TextLayer`."""
        last = self.depth - 1
        if last == 0 and output_positions is not None:
            x = jnp.take_along_axis(x, output_positions[:, :, None], axis=1)
        x = self._layer(0, x, None, image_tokens, image_index, part=IMAGE)
        for i in range(1, self.depth):
            places = output_positions if i == last else None
            x = self._layer(i, x, bias, image_tokens, image_index, places)
        return jnp.asarray(x)


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
        deterministic: bool = True,
    ) -> Float[Array, "B T D"]:
        """Decodes ids int32 [B,T], valid bool [B,T] -> float [B,T,D]."""
        x = self.bert(ids, valid, image_tokens, causal=causal, deterministic=deterministic)
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
        x = gelu(dense(x.shape[-1], "dense", self.dtype)(x))
        x = layer_norm("norm", EPSILON, self.dtype)(x)
        bias = self.param("bias", nn.initializers.zeros_init(), (embedding.shape[0],))
        rows = x.reshape(-1, x.shape[-1])
        logits = jnp.matmul(rows, embedding.T.astype(self.dtype)).astype(jnp.float32)
        return constrain_rows((logits + bias[None]).reshape(*x.shape[:-1], -1))
