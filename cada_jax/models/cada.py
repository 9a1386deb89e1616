"""The whole CADA model: both encoders, the association decoder, the attribute decoder.

Source: CADA (Lin, Peng, Meng, Zheng, IEEE TMM 26, 2024), sections on ATP and ARA; sizes
and details of the released code as METHOD states them. Every method is called as
`model.apply({"params": params}, ..., method="encode_image")`.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from cada_jax.common.shapes import AnyArray, Array, Bool, Float, Float32, Int, PRNGKeyArray
from cada_jax.config import check_network
from cada_jax.distributed.mesh import on_cpu
from cada_jax.models.bert import AttributeDecoder, Bert, Packed, attention_bias, packed_bias
from cada_jax.models.layers import FEW_LAYERS, dense
from cada_jax.models.vit import ImageEncoder


def from_config(config: ConfigDict) -> "CADA":
    """Builds the model that a full config describes.

    Raises:
      UsageError: a field holds a value that is not allowed; the message names the field.
    """
    check_network(config)
    # Phrases are no parts of the text that the network could know: see `match_tokens`.
    groups = 1 if config.atp.groups == "phrases" else config.atp.groups
    return CADA(
        config=FrozenConfigDict(config.model.to_dict()),
        gate=config.atp.gate,
        groups=groups,
        group_size=(config.data.max_length - 1) // groups,
        group_pool=config.atp.group_pool,
        causal=config.ara.causal,
    )


class CADA(nn.Module):
    """Cross-modal adaptive dual association; build it by `from_config`.

    B images, M texts, T tokens of a text, S = 1 + patches, Dv / D image and text width,
    E the shared embedding's width.
    """

    config: Any  # FrozenConfigDict of config.model
    gate: str = "token"
    groups: int = 2
    group_size: int = 36
    group_pool: str = "valid"
    causal: bool = True

    def setup(self):
        """Makes the parts, under the names that checkpoints use."""
        c = self.config
        dtype = jnp.dtype(c.dtype)
        common = dict(dtype=dtype, remat=c.remat)
        self.image_encoder = ImageEncoder(**c.image.to_dict(), **common)
        text = c.text.to_dict()
        self.text_encoder = Bert(**text, **common, gated=self.gate == "token")
        self.attribute_decoder = AttributeDecoder(dict(**text, remat=c.remat), dtype)
        # float32: rounded to bfloat16, many pairs would share a score and the ranking suffer.
        self.vision_proj = dense(c.embed_dim, "vision_proj", jnp.float32)
        self.text_proj = dense(c.embed_dim, "text_proj", jnp.float32)
        self.itm_head = dense(2, "itm_head", jnp.float32)
        self.itm_local_head = dense(2, "itm_local_head", jnp.float32)

    def __call__(self, images: Float32[AnyArray, "B H W 3"], token_ids: Int[AnyArray, "B T"]):
        """Runs every part once (images [B,H,W,3], token_ids [B,T]); used to initialise."""
        image_tokens = self.encode_image(images)
        decoded = self.decode(token_ids, image_tokens)
        return (
            self.match(decoded),
            self.match_groups(decoded, token_ids),
            self.project_image(image_tokens),
            self.project_text(self.encode_text(token_ids)),
            self.predict_masked(token_ids, token_ids != self.config.tokens.pad, image_tokens),
        )

    def encode_image(
        self, images: Float32[AnyArray, "B H W 3"], *, deterministic: bool = True
    ) -> Float[Array, "B S Dv"]:
        """Normalised images float32 [B,H,W,3] -> image tokens [B,S,Dv], [CLS] first."""
        pixels = jnp.asarray(images, jnp.dtype(self.config.dtype))
        return self.image_encoder(pixels, deterministic)

    def encode_text(
        self, token_ids: Int[AnyArray, "M T"], *, deterministic: bool = True
    ) -> Float[Array, "M T D"]:
        """Token ids int32 [M,T] -> text tokens [M,T,D], without any image."""
        valid = token_ids != self.config.tokens.pad
        return self.text_encoder(token_ids, valid, deterministic=deterministic)

    def project_image(self, image_tokens: Float[AnyArray, "B S Dv"]) -> Float32[Array, "B E"]:
        """Image tokens [B,S,Dv] -> embedding float32 [B,E] of [CLS], not normalised."""
        return self.vision_proj(image_tokens[:, 0])

    def project_text(self, text_tokens: Float[AnyArray, "M T D"]) -> Float32[Array, "M E"]:
        """Text tokens [M,T,D] -> embedding float32 [M,E] of [CLS], not normalised."""
        return self.text_proj(text_tokens[:, 0])

    def embed_text(self, token_ids: Int[AnyArray, "M T"]) -> Float32[Array, "M E"]:
        """`project_text` of `encode_text` of [CLS] alone, int32 [M,T] -> float32 [M,E]."""
        valid = token_ids != self.config.tokens.pad
        x = self.text_encoder.attend_text(token_ids, valid)
        inputs = x, attention_bias(valid, False), None, None, jnp.zeros((len(x), 1), jnp.int32)
        return self.project_text(self.text_encoder.attend_images(*inputs))

    def decode(
        self,
        token_ids: Int[AnyArray, "M T"],
        image_tokens: Float[AnyArray, "B S Dv"],
        image_index: Int[AnyArray, "M"] | Int[AnyArray, "G rows"] | None = None,
        *,
        deterministic: bool = True,
    ) -> Float[Array, "M T D"]:
        """Lets text tokens associate with image patches (ATP), [CLS] read as [ENC].

        Args:
          token_ids: int32 [M,T], [CLS] first.
          image_tokens: float [B,S,Dv].
          image_index: int32 [M] in [0,B), the image of each text; None: M / B rows after each
            other attend one image.
            Keys and values are computed once per image however many texts use it.
            Or [G,M/G] in [0,B/G), texts and images in G groups: see `layers.Attention`.
          deterministic: no dropout.

        Returns:
          float [M,T,D].
        """
        valid = token_ids != self.config.tokens.pad
        ids = jnp.asarray(token_ids).at[:, 0].set(self.config.tokens.enc)
        return self.text_encoder(ids, valid, image_tokens, image_index, deterministic=deterministic)

    @nn.nowrap
    def splits_layers(self) -> bool:
        """Whether to compute parts of the first and last text layer pays in training.

        On a CPU, of two layers, `attend_text` with `decode_attended` saves an eighth of a step, and
        `embed_text` 3 %. Elsewhere, and of many layers, such a part is little of the whole.
        """
        return on_cpu() and self.config.text.depth <= FEW_LAYERS and self.config.remat == "off"

    def attend_text(self, token_ids: Int[AnyArray, "M T"]) -> Float[Array, "M T D"]:
        """The part of `decode` that comes before any image: int32 [M,T] -> float [M,T,D]."""
        ids = jnp.asarray(token_ids).at[:, 0].set(self.config.tokens.enc)
        return self.text_encoder.attend_text(ids, token_ids != self.config.tokens.pad)

    def decode_attended(
        self,
        attended: Float[AnyArray, "M T D"],
        valid: Bool[AnyArray, "M T"],
        image_tokens: Float[AnyArray, "B S Dv"],
        image_index: Int[AnyArray, "M"] | None = None,
    ) -> Float[Array, "M T D"]:
        """The rest of `decode` without dropout; other arguments as there.

        Args:
          attended: float [M,T,D], from `attend_text`.
          valid: bool [M,T], False for padding.
          image_tokens: float [B,S,Dv].
          image_index: int32 [M] or None.
        """
        bias = attention_bias(valid, False)
        return self.text_encoder.attend_images(attended, bias, image_tokens, image_index)

    def match_attended(
        self,
        attended: Float[AnyArray, "M T D"],
        segments: Int[AnyArray, "M T"],
        output_positions: Int[AnyArray, "M t"],
        image_tokens: Float[AnyArray, "B S Dv"],
    ) -> Float32[Array, "M t 2"]:
        """`match_packed` of texts from `attend_text` that share rows; arguments as of `Packed`."""
        inputs = attended, packed_bias(segments), image_tokens, None, output_positions
        return self.itm_head(self.text_encoder.attend_images(*inputs))

    def match_packed(
        self,
        token_ids: Int[AnyArray, "M T"],
        packed: Packed,
        image_tokens: Float[AnyArray, "B S Dv"],
    ) -> Float32[Array, "M t 2"]:
        """`match` of `decode` for texts that share rows; for inference.

        Args:
          token_ids: int32 [M,T], texts of the same image one after another, each with its [CLS].
          packed: where they lie, and where their [CLS] are.
          image_tokens: float [B,S,Dv]; M / B rows after each other attend one image.

        Returns:
          match logits float32 [M,t,2].
        """
        valid = packed.segments >= 0
        ids = jnp.where(valid & (packed.positions == 0), self.config.tokens.enc, token_ids)
        return self.itm_head(self.text_encoder(ids, valid, image_tokens, packed=packed))

    def match(self, decoded: Float[AnyArray, "M T D"]) -> Float32[Array, "M 2"]:
        """Decoded tokens [M,T,D] -> match logits float32 [M,2] of [ENC]; 1 is "match"."""
        return self.itm_head(decoded[:, 0])

    def match_groups(
        self, decoded: Float[AnyArray, "M T D"], token_ids: Int[AnyArray, "M T"]
    ) -> tuple[Float32[Array, "M n 2"], Float32[Array, "M n"]]:
        """Match logits of consecutive token groups.

        Args:
          decoded: float [M,T,D]; T may be less than max_length where captions are cut.
          token_ids: int32 [M,T], as given to `decode`.

        Returns:
          logits float32 [M,n,2] and weights float32 [M,n]: 0 for a group without a real
          token under group_pool="valid", else 1. "all" averages every position of a
          group, [SEP] and padding too, as the released code does.
        """
        tokens = self.config.tokens
        used = jnp.ones_like(token_ids, bool)
        if self.group_pool == "valid":
            used = (token_ids != tokens.pad) & (token_ids != tokens.sep)
        batch, length, width = decoded.shape
        # Groups are places in a caption of full length: what was cut off is padding.
        missing = ((0, 0), (0, 1 + self.groups * self.group_size - length))
        used, decoded = jnp.pad(used, missing), jnp.pad(decoded, (*missing, (0, 0)))
        used = used[:, 1:].reshape(batch, self.groups, -1, 1).astype(jnp.float32)
        grouped = decoded[:, 1:].reshape(batch, self.groups, -1, width).astype(jnp.float32)
        count = used.sum(axis=2)
        mean = (grouped * used).sum(axis=2) / jnp.maximum(count, 1.0)
        return self.itm_local_head(mean), (count[..., 0] > 0).astype(jnp.float32)

    def match_tokens(self, decoded: Float[AnyArray, "M T D"]) -> Float32[Array, "M T 2"]:
        """What each token adds to the match logits of its group, float32 [M,T,2].

        The head is linear: the mean over tokens is what it gives for the mean of the tokens.
        """
        return self.itm_local_head(decoded)

    def predict_masked(
        self,
        token_ids: Int[AnyArray, "B T"],
        valid: Bool[AnyArray, "B T"],
        image_tokens: Float[AnyArray, "B S Dv"],
        *,
        deterministic: bool = True,
    ) -> Float32[Array, "B T V"]:
        """Predicts masked words from their image (ARA): `decode_masked`, then `masked_logits`.

        Args:
          token_ids: int32 [B,T] with [MASK] already in place; [CLS] stays [CLS].
          valid: bool [B,T], False for padding.
          image_tokens: float [B,S,Dv].
          deterministic: no dropout.

        Returns:
          logits float32 [B,T,V]; position t predicts token t (no shift).
        """
        return self.masked_logits(
            self.decode_masked(token_ids, valid, image_tokens, deterministic=deterministic)
        )

    def decode_masked(
        self,
        token_ids: Int[AnyArray, "B T"],
        valid: Bool[AnyArray, "B T"],
        image_tokens: Float[AnyArray, "I S Dv"],
        *,
        deterministic: bool = True,
    ) -> Float[Array, "B T D"]:
        """What `predict_masked` computes before the vocabulary: float [B,T,D]; arguments there.

        Of fewer images than texts, I of them, B / I texts after each other attend one image.
        """
        return self.attribute_decoder(token_ids, valid, image_tokens, self.causal, deterministic)

    def masked_logits(self, decoded: Float[AnyArray, "*rows D"]) -> Float32[Array, "*rows V"]:
        """Decoded tokens float [...,D] -> logits float32 [...,V]."""
        return self.attribute_decoder.predict(decoded)


def apply(model: CADA, params: Any, method: str, *inputs, **options) -> Any:
    """`model.METHOD(*inputs)` with these parameters.

    Args:
      model: the CADA module.
      params: its parameters.
      method: name of one of the module's methods.
      *inputs: of the method.
      **options: `deterministic` where the method takes it; of Flax's `Module.apply`: `rngs`,
        `mutable`.
    """
    return model.apply({"params": params}, *inputs, method=method, **options)


def init_params(model: CADA, config: ConfigDict, key: PRNGKeyArray) -> dict[str, Any]:
    """Random float32 parameters; pure, so `jax.eval_shape` gives their shapes alone."""
    height, width = config.model.image.size
    images = jnp.zeros((1, height, width, 3), jnp.float32)
    token_ids = jnp.ones((1, config.data.max_length), jnp.int32)
    return dict(model.init(key, images, token_ids)["params"])
