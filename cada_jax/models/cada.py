"""The whole CADA model: both encoders, the association decoder, the attribute decoder.

Source: CADA (Lin, Peng, Meng, Zheng, IEEE TMM 26, 2024), sections on ATP and ARA; sizes and details
of the released code as METHOD states them. Every method is called by `apply`.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from cada_jax.common.shapes import AnyArray, Array, Bool, Float, Float32, Int, PRNGKeyArray
from cada_jax.config import check_network
from cada_jax.models.bert import AttributeDecoder, Bert, Packed
from cada_jax.models.layers import Dense
from cada_jax.models.vit import ImageEncoder, patch_grid


def from_config(config: ConfigDict) -> "CADA":
    """Builds the model that a full config describes.

    Raises:
      UsageError: a field holds a value that is not allowed; the message names the field.
    """
    check_network(config)
    model = FrozenConfigDict(config.model.to_dict())
    return CADA(config=model, gate=config.atp.gate, causal=config.ara.causal)


class CADA(nn.Module):
    """Cross-modal adaptive dual association; build it by `from_config`.

    B images, M texts, T tokens of a text, S tokens of an image, Dv / D image and text width, E the
    shared embedding's width. `seeds`, int32 of `random_bits.row_seeds` for each image or text, are
    what dropout and drop path draw from; None drops nothing.
    """

    config: Any  # FrozenConfigDict of config.model
    gate: str = "token"
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
        self.vision_proj = Dense(c.embed_dim)
        self.text_proj = Dense(c.embed_dim)
        self.itm_head = Dense(2)
        self.itm_local_head = Dense(2)

    def __call__(self, images: Float32[AnyArray, "B H W 3"], token_ids: Int[AnyArray, "B T"]):
        """Runs every part once (images [B,H,W,3], token_ids [B,T]); used to initialise."""
        image, image_tokens = self.encode_image(images)
        text, _ = self.encode_text(token_ids)
        decoded = self.decode(token_ids, image_tokens)
        masked = self.decode_masked(token_ids, token_ids != self.config.tokens.pad, image_tokens)
        heads = self.match(decoded), self.match_tokens(decoded), self.masked_logits(masked)
        return *heads, self.project_image(image), self.project_text(text)

    def encode_image(
        self,
        images: Float32[AnyArray, "B H W 3"],
        *,
        seeds: Int[AnyArray, "B 2"] | None = None,
    ) -> tuple[Float[Array, "B Dv"], Float[Array, "B S Dv"]]:
        """Normalised images float32 [B,H,W,3] -> what `project_image` takes, and image tokens."""
        return self.image_encoder(jnp.asarray(images, jnp.dtype(self.config.dtype)), seeds)

    def encode_text(
        self, token_ids: Int[AnyArray, "M T"], *, seeds: Int[AnyArray, "M 2"] | None = None
    ) -> tuple[Float[Array, "M D"], Float[Array, "M T D"]]:
        """Token ids int32 [M,T] -> what `project_text` takes, and text tokens: of text alone."""
        tokens = self.text_encoder(token_ids, token_ids != self.config.tokens.pad, seeds=seeds)
        return tokens[:, 0], tokens

    def project_image(self, encoded: Float[AnyArray, "*rows Dv"]) -> Float32[Array, "*rows E"]:
        """Float [...,Dv], from `encode_image` -> embedding float32 [...,E], not normalised."""
        return self.vision_proj(encoded)

    def project_text(self, encoded: Float[AnyArray, "*rows D"]) -> Float32[Array, "*rows E"]:
        """Float [...,D], from `encode_text` -> embedding float32 [...,E], not normalised."""
        return self.text_proj(encoded)

    @nn.nowrap
    def patches(self, image_tokens: Float[AnyArray, "B S Dv"]) -> Float[AnyArray, "B N Dv"]:
        """Those of the image tokens that are patches, in row-major order."""
        rows, columns = patch_grid(self.config.image)
        return image_tokens[:, -rows * columns :]

    def decode(
        self,
        token_ids: Int[AnyArray, "M T"],
        image_tokens: Float[AnyArray, "B S Dv"],
        image_index: Int[AnyArray, "G rows"] | None = None,
        *,
        seeds: Int[AnyArray, "M 2"] | None = None,
    ) -> Float[Array, "M T D"]:
        """Lets text tokens associate with image patches (ATP), [CLS] read as [ENC].

        Args:
          token_ids: [CLS] first.
          image_tokens: of `encode_image`.
          image_index: in [0,B/G), the image of each text, texts and images in G groups of equal
            size; None: M / B texts after each other attend one image. Keys and values are computed
            once per image however many texts use it.
          seeds: only for B = M or with an index.
        """
        valid = token_ids != self.config.tokens.pad
        ids = jnp.asarray(token_ids).at[:, 0].set(self.config.tokens.enc)
        return self.text_encoder(ids, valid, image_tokens, image_index, seeds=seeds)

    def match(self, decoded: Float[AnyArray, "M T D"]) -> Float32[Array, "M 2"]:
        """Decoded tokens [M,T,D] -> match logits float32 [M,2] of [ENC]; 1 is "match"."""
        return self.itm_head(decoded[:, 0])

    def match_packed(
        self,
        token_ids: Int[AnyArray, "M T"],
        packed: Packed,
        image_tokens: Float[AnyArray, "B S Dv"],
    ) -> Float32[Array, "M t 2"]:
        """`match` of `decode` for texts that share rows; for inference.

        Texts of the same image lie one after another, each with its [CLS]; M / B rows after each
        other attend one image.
        """
        first = (packed.segments >= 0) & (packed.positions == 0)
        ids = jnp.where(first, self.config.tokens.enc, token_ids)
        return self.itm_head(self.text_encoder.packed(ids, packed, image_tokens))

    def match_tokens(self, decoded: Float[AnyArray, "M T D"]) -> Float32[Array, "M T 2"]:
        """What each token adds to the match logits of its group, float32 [M,T,2].

        The head is linear: the mean over tokens is what it gives for the mean of the tokens.
        """
        return self.itm_local_head(decoded)

    def decode_masked(
        self,
        token_ids: Int[AnyArray, "B T"],
        valid: Bool[AnyArray, "B T"],
        image_tokens: Float[AnyArray, "I S Dv"],
        *,
        seeds: Int[AnyArray, "B 2"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Reads masked words from their image (ARA), up to the vocabulary.

        [MASK] is already in place, [CLS] stays [CLS], and position t predicts token t (no shift).
        B / I texts after each other attend one image; seeds are for I = B alone.
        """
        return self.attribute_decoder(token_ids, valid, image_tokens, self.causal, seeds)

    def masked_logits(self, decoded: Float[AnyArray, "*rows D"]) -> Float32[Array, "*rows V"]:
        """Decoded tokens float [...,D] -> logits float32 [...,V]."""
        return self.attribute_decoder.predict(decoded)


def apply(model: CADA, params: Any, method: str, *inputs, **options) -> Any:
    """`model.METHOD(*inputs)` with these parameters; options: `seeds`, and Flax's `mutable`."""
    return model.apply({"params": params}, *inputs, method=method, **options)


def init_params(model: CADA, config: ConfigDict, key: PRNGKeyArray) -> dict[str, Any]:
    """Random float32 parameters; pure, so `jax.eval_shape` gives their shapes alone."""
    height, width = config.model.image.size
    images = jnp.zeros((1, height, width, 3), jnp.float32)
    token_ids = jnp.ones((1, config.data.max_length), jnp.int32)
    return dict(model.init(key, images, token_ids)["params"])
