"""Fields of the network."""

from cada_jax.config.fields.data import PIXELS
from cada_jax.config.fields.field import CONTINUED, Field, Same
from cada_jax.config.kinds import Choice, Integer, Number, Pair

_WIDTH = Integer(1, 2**16)
_LAYERS = Integer(1, 1000)
_DROPPED = Number(0, 1, below=True)
_TOKEN = Integer(0, 10**7)

FIELDS = (
    Field(
        "model.image.size",
        Same("data.image_size"),
        Pair(PIXELS, Integer(1, 8192)),
        "follows data.image_size: set that one",
    ),
    Field(
        "model.image.patch",
        (16, 16),
        Pair(PIXELS, Integer(1, 1024)),
        "size of a patch in pixels; divides the image",
    ),
    Field(
        "model.image.stem",
        "patch",
        Choice(("patch", "conv")),
        "patch: one linear map; conv: small convolutions first",
    ),
    Field("model.image.width", 768, _WIDTH, "width of an image token"),
    Field("model.image.depth", 12, _LAYERS, "layers of the image encoder"),
    Field("model.image.heads", 12, Integer(1, 4096), "attention heads; divides the width"),
    Field("model.image.mlp_dim", 3072, Integer(1, 2**20), "hidden width of a layer's MLP"),
    Field(
        "model.image.drop_path",
        0.0,
        _DROPPED,
        "probability that a branch of the last layer is dropped; grows linearly from 0 at the "
        "first",
    ),
    # The text encoder, the decoder and the attribute decoder share these.
    Field(
        "model.text.vocab_size",
        30524,
        Integer(6, 10**7),
        "entries of the vocabulary: BERT's 30522, [DEC] and [ENC]",
    ),
    Field(
        "model.text.stem",
        "embed",
        Choice(("embed", "conv")),
        "embed: embeddings alone; conv: each token sees the two before it",
    ),
    Field("model.text.width", 768, _WIDTH, "width of a text token"),
    Field("model.text.depth", 12, _LAYERS, "layers of the text encoder and of each decoder"),
    Field("model.text.heads", 12, Integer(1, 4096), "attention heads; divides the width"),
    Field("model.text.mlp_dim", 3072, Integer(1, 2**20), "hidden width of a layer's MLP"),
    Field(
        "model.text.max_positions", 512, Integer(3, 2**16), "tokens that have a position embedding"
    ),
    Field(
        "model.text.dropout",
        0.1,
        _DROPPED,
        "dropout probability of embeddings, attention weights and layer outputs",
    ),
    Field("model.embed_dim", 256, _WIDTH, "width of the shared image and text embedding"),
    Field("model.tokens.pad", 0, _TOKEN, "id of [PAD] in the vocabulary"),
    Field("model.tokens.cls", 101, _TOKEN, "id of [CLS]"),
    Field("model.tokens.sep", 102, _TOKEN, "id of [SEP]"),
    Field("model.tokens.mask", 103, _TOKEN, "id of [MASK]"),
    Field("model.tokens.dec", 30522, _TOKEN, "id of [DEC]"),
    Field("model.tokens.enc", 30523, _TOKEN, "id of [ENC]"),
    Field(
        "model.dtype",
        "float32",
        Choice(("float32", "bfloat16")),
        "type of activations; parameters are float32",
    ),
    Field(
        "model.remat",
        "off",
        Choice(("off", "light", "full")),
        "what the backward pass computes again, to save memory. off: nothing; light: all of a "
        "layer but its products with weights; full: every layer",
        CONTINUED,
    ),
)
