"""The one table of fields, by group: a row each.

Everything else about the configuration is derived from it: `default_config`, the checks, the
spelling of overrides, `FREE_KEYS` and the list that `python -m cada_jax.config` prints. The
defaults are those of full-size CADA (ViT-B/16 and BERT base on 224x224 images); the recipe is the
one that the authors' code runs.
"""

import dataclasses
import itertools
from typing import Any

from cada_jax.config.kinds import (
    VARIANT,
    Kind,
    choice,
    flag,
    integer,
    name_list,
    number,
    pair,
    text,
)

# When a field may differ from what WORKDIR/config.json holds.
NEVER = "never"  # it decides the numbers of the run or the shape of the network
SCORED = "scored"  # while a trained run is scored: it is no part of the network or its input
CONTINUED = "continued"  # at any time: places, how often something is said, how work is divided


@dataclasses.dataclass(frozen=True)
class Same:
    """The default of a field that follows the field `name`."""

    name: str


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of the configuration.

    Attributes:
      name: dotted, below `config`.
      default: its value in `default_config()`.
      kind: the values that it allows.
      meaning: what it is, with its unit.
      change: NEVER, SCORED or CONTINUED.
    """

    name: str
    default: Any
    kind: Kind
    meaning: str
    change: str = NEVER


DATASETS = ("cuhk", "folder", "icfg", "rstp", "synthetic")  # cada_jax/data/datasets
STAGES = ("global", "reranked", "match_only")
FIGURES = ("R1", "R5", "R10", "mAP", "mINP")
MODEL_SOURCE = "a folder, a .pth or .safetensors file, pretrained:NAME or hf:ORG/NAME"

_RATE, _BELOW_1, _ABOVE_0 = number(0, 1), number(0, 1, below=True), number(0, 1, above=True)
_WEIGHT, _FACTOR = number(0, 1e6), number(0, 1e6, above=True)
_WIDTH = _BATCH = integer(1, 2**16)
_LAYERS, _TOKEN, _TOP, _STEPS = (integer(low, 10**n) for low, n in ((1, 3), (0, 7), (0, 6), (1, 8)))
_IMAGE, _PATCH = (pair("height", "width", integer(1, most)) for most in (2**13, 2**10))
_AREA = pair("smallest", "largest", number(0, 0.8, above=True), ordered=True)
_RATIO = pair("smallest", "largest", number(0.001, 1000), ordered=True)
_SETS = name_list(*DATASETS)
_AXIS = integer(1, 2**16, all_that_remain=-1)
_METRICS = choice(
    *(f"{stage}/{figure}" for stage, figure in itertools.product(STAGES, FIGURES)),
    said=f"STAGE/FIGURE of {', '.join(STAGES)} and {', '.join(FIGURES)}",
)

# fmt: off
FIELDS: tuple[Field, ...] = (
    Field("seed", 0, integer(0, 2**32 - 1),
          "the only source of randomness: init, data order, augmentation, masks", SCORED),
    Field("init_from", None, text(MODEL_SOURCE),
          "weights to start from, None: random ones. A model folder, a PyTorch checkpoint, "
          "pretrained:NAME of the package or hf:ORG/NAME of the Hugging Face hub", SCORED),
    Field("init_parts", "all", choice("all", "encoders"),
          "what is taken of init_from. encoders: not cross-attention, gate, attribute "
          "decoder and match heads, which start from random values as without init_from", SCORED),
    Field("data.name", "rstp", choice(*DATASETS), "a builder in cada_jax/data/datasets"),
    Field("data.variant", None, text("a name", VARIANT),
          "settings that the data was prepared with; None: those of this configuration"),
    Field("data.data_dir", None, text("a folder"),
          "folder of the prepared TFRecords; None: $CADA_DATA_DIR or ~/cada_data", CONTINUED),
    Field("data.image_size", (224, 224), _IMAGE, "size of an image in pixels"),
    Field("data.max_length", 73, integer(3, 2**16),
          "tokens of a caption, [CLS] and [SEP] included"),
    Field("data.captions", "all", choice("all", "first2"),
          "captions of an image that are used: all, or the first two as the released code"),
    Field("data.vocab", None, text("a file or a hub name"),
          "vocabulary file or hub name; None: the vocabulary stored with the data"),
    Field("data.tagger", "grammar", choice("grammar", "pattern", "nltk"),
          "how attribute phrases are found. grammar: rules of grammar for descriptions; "
          "pattern: the tagger that comes with textblob; nltk: NLTK's, which needs its data"),
    Field("data.tag_unit", "word", choice("word", "wordpiece"),
          "what is tagged: words, or WordPieces as the released code"),
    # On the device and in this order.
    Field("augment.flip", 0.5, _RATE, "probability of a horizontal flip", SCORED),
    Field("augment.pad", 10, integer(0, 4096),
          "zero pixels added on every side, before normalising and before the crop", SCORED),
    Field("augment.shorten", 0.0, _RATE,
          "probability that a caption is cut down to one to three of its attribute phrases",
          SCORED),
    Field("augment.erase", 0.5, _RATE, "probability that one rectangle is erased", SCORED),
    Field("augment.erase_area", (0.02, 0.4), _AREA,
          "erased fraction of the image, drawn uniformly", SCORED),
    Field("augment.erase_ratio", (0.3, 3.3), _RATIO,
          "height / width of the rectangle, drawn log-uniformly", SCORED),
    Field("model.image.size", Same("data.image_size"), _IMAGE,
          "follows data.image_size: set that one"),
    Field("model.image.patch", (16, 16), _PATCH, "size of a patch in pixels; divides the image"),
    Field("model.image.stem", "patch", choice("patch", "conv"),
          "patch: one linear map; conv: small convolutions first"),
    Field("model.image.width", 768, _WIDTH, "width of an image token"),
    Field("model.image.depth", 12, _LAYERS, "layers of the image encoder"),
    Field("model.image.heads", 12, integer(1, 4096), "attention heads; divides the width"),
    Field("model.image.mlp_dim", 3072, integer(1, 2**20), "hidden width of a layer's MLP"),
    Field("model.image.drop_path", 0.0, _BELOW_1,
          "probability that a branch of the last layer is dropped; grows linearly from 0 at the "
          "first"),
    Field("model.image.norm_epsilon", 1e-6, number(0, 0.01, above=True),
          "added to the variance in LayerNorm; that of a converted model is its config.json's"),
    # The text encoder, the decoder and the attribute decoder share these.
    Field("model.text.vocab_size", 30524, integer(6, 10**7),
          "entries of the vocabulary: BERT's 30522, [DEC] and [ENC]"),
    Field("model.text.stem", "embed", choice("embed", "conv"),
          "embed: embeddings alone; conv: each token sees the two before it"),
    Field("model.text.width", 768, _WIDTH, "width of a text token"),
    Field("model.text.depth", 12, _LAYERS, "layers of the text encoder and of each decoder"),
    Field("model.text.heads", 12, integer(1, 4096), "attention heads; divides the width"),
    Field("model.text.mlp_dim", 3072, integer(1, 2**20), "hidden width of a layer's MLP"),
    Field("model.text.max_positions", 512, integer(3, 2**16),
          "tokens that have a position embedding"),
    Field("model.text.dropout", 0.1, _BELOW_1,
          "dropout probability of embeddings, attention weights and layer outputs"),
    Field("model.embed_dim", 256, _WIDTH, "width of the shared image and text embedding"),
    Field("model.tokens.pad", 0, _TOKEN, "id of [PAD] in the vocabulary"),
    Field("model.tokens.cls", 101, _TOKEN, "id of [CLS]"),
    Field("model.tokens.sep", 102, _TOKEN, "id of [SEP]"),
    Field("model.tokens.mask", 103, _TOKEN, "id of [MASK]"),
    Field("model.tokens.dec", 30522, _TOKEN, "id of [DEC]"),
    Field("model.tokens.enc", 30523, _TOKEN, "id of [ENC]"),
    Field("model.dtype", "float32", choice("float32", "bfloat16"),
          "type of activations; parameters are float32"),
    Field("model.remat", "off", choice("off", "light", "full"),
          "what the backward pass computes again, to save memory. off: nothing; "
          "light: all of a layer but its products with weights; full: every layer", CONTINUED),
    Field("loss.global", "ndf", choice("ndf", "tal"),
          "global loss. ndf: normalised distribution fitting, as CADA; tal: triplet "
          "alignment loss, as RDE", SCORED),
    Field("loss.scale", 50.0, _FACTOR,
          "constant that multiplies the cosine similarities of loss.global=ndf", SCORED),
    Field("loss.tal_margin", 0.1, number(0, 2),
          "cosine by which loss.global=tal wants the own person above all others", SCORED),
    Field("loss.tal_temperature", 0.015, number(1e-3, 1e3),
          "of loss.global=tal: cosines are divided by it", SCORED),
    Field("loss.global_weight", 1.0, _WEIGHT, "weight of the global loss", SCORED),
    Field("loss.atp_weight", 1.0, _WEIGHT, "weight of ATP; 0: no decoder passes", SCORED),
    Field("loss.group_weight", 1.0, _WEIGHT,
          "weight of the group loss within ATP; MARS takes 2 for its phrases", SCORED),
    Field("loss.ara_weight", 0.1, _WEIGHT, "weight of ARA; 0: no attribute decoder", SCORED),
    Field("loss.alignment", "off", choice("off", "quota_transport"),
          "further loss between words and patches. quota_transport: optimal transport "
          "whose marginals the other side decides, as QC-Align", SCORED),
    Field("loss.alignment_weight", 0.5, _FACTOR,
          "weight of loss.alignment, where it is not off", SCORED),
    Field("loss.transport_epsilon", 0.5, number(0.01, 100),
          "weight of the plan's entropy in loss.alignment=quota_transport; a cost is "
          "1 - cosine", SCORED),
    # Association of text tokens to image patches.
    Field("atp.gate", "token", choice("token", "off"),
          "token: a learned gate for each text token; off: no such parameters"),
    Field("atp.negatives", "hardest", choice("hardest", "sampled", "underflow"),
          "hardest: the most similar one; sampled: with probability softmax(cosine / temperature); "
          "underflow: as the released code, batch row 0 where a softmax leaves others no weight"),
    Field("atp.temperature", 0.07, number(1e-4, 1e4), "temperature of sampled and underflow"),
    Field("atp.groups", 2, integer(1, 2**16, the_phrases_of_the_caption="phrases"),
          "groups of tokens that the group loss reads: so many consecutive ones of equal size "
          "after position 0, or phrases"),
    Field("atp.group_pool", "valid", choice("valid", "all"),
          "tokens that a group's mean takes; all: [SEP] and padding too, as the released code"),
    # Association of image regions to attribute phrases.
    Field("ara.masking", "phrase", choice("phrase", "token"),
          "phrase: whole phrases are masked; token: the tokens of single words"),
    Field("ara.phrase_rate", 0.8, _ABOVE_0, "probability that a phrase is masked"),
    Field("ara.token_rate", 0.4, _ABOVE_0, "probability that a token is masked"),
    Field("ara.causal", True, flag(),
          "whether self-attention of the attribute decoder sees no later token"),
    Field("optimizer.learning_rate", 1e-5, _ABOVE_0, "at the peak", SCORED),
    Field("optimizer.min_learning_rate", 0.0, _RATE, "at the end of the cosine", SCORED),
    Field("optimizer.warmup_steps", 0, integer(0, 10**6),
          "steps in which the rate grows linearly to what the cosine gives", SCORED),
    Field("optimizer.schedule", "epoch", choice("epoch", "step"),
          "whether the cosine is stepped once an epoch, as the released code does, or "
          "every step", SCORED),
    Field("optimizer.b1", 0.9, _BELOW_1, "AdamW's decay of the first moment", SCORED),
    Field("optimizer.b2", 0.999, _BELOW_1, "AdamW's decay of the second moment", SCORED),
    Field("optimizer.eps", 1e-8, number(1e-30, 1), "AdamW's addend of the denominator", SCORED),
    Field("optimizer.weight_decay", 0.05, _RATE,
          "decoupled, times the learning rate", SCORED),
    Field("optimizer.decay", "all", choice("all", "matrices"),
          "parameters that decay: all, or neither biases nor norms", SCORED),
    Field("optimizer.clip_norm", 0.0, _WEIGHT,
          "norm of the whole gradient above which it is scaled down; 0: never", SCORED),
    Field("train.batch_size", 120, integer(2, 2**17),
          "image-caption pairs over all devices; the others of a batch are the negatives", SCORED),
    Field("train.accumulation", 1, _BATCH,
          "chunks of a batch on a device: less memory, the same gradient", CONTINUED),
    Field("train.epochs", 30, integer(1, 10**6), "passes over the training pairs", SCORED),
    Field("train.datasets", "", _SETS,
          "sets mixed for training, as cuhk,rstp; empty: data.name alone", SCORED),
    Field("train.max_steps", 0, integer(0, 10**8),
          "steps after which the run ends; 0: train.epochs decides", SCORED),
    Field("train.log_every", 50, _STEPS, "steps between two lines of figures", CONTINUED),
    Field("train.eval_every", 1, integer(0, 10**6),
          "epochs between two evaluations; 0: at the end alone", SCORED),
    Field("train.checkpoint_every", 500, integer(0, 10**8),
          "steps between two checkpoints, besides one at every evaluation; 0: those "
          "alone", CONTINUED),
    Field("train.keep_checkpoints", 2, integer(1, 10**5),
          "newest checkpoints kept, besides the best", CONTINUED),
    Field("train.profile_start", -1, integer(1, 10**8, never=-1),
          "step at which a profile begins", CONTINUED),
    Field("train.profile_steps", 5, integer(1, 10**4), "steps of a profile", CONTINUED),
    Field("eval.batch_size", 128, _BATCH,
          "images, and texts, encoded at once over all devices", CONTINUED),
    Field("eval.rerank_top_k", 128, _TOP,
          "images of each text that the decoder scores; 0: stage one only", SCORED),
    Field("eval.rerank_batch", 256, _BATCH,
          "longest texts whose tokens are decoded at once over all devices", CONTINUED),
    Field("eval.mirror", False, flag(),
          "whether a match logit is the mean over the image and its mirror image; twice "
          "the time", SCORED),
    Field("eval.select", "best", choice("best", "last"),
          "the parameters that are scored and exported: the best by eval.select_metric, "
          "or the last; with a small eval.select_on the best is chance", SCORED),
    Field("eval.select_on", "val", choice("val", "test"),
          "split that chooses the best checkpoint; test is for comparison with the "
          "released code", SCORED),
    Field("eval.select_metric", "reranked/R1", _METRICS,
          "figure that chooses the best checkpoint", SCORED),
    Field("eval.split", "test", choice("train", "val", "test"),
          "split that is scored at the end, and by --mode=eval", CONTINUED),
    Field("eval.baseline", True, flag(),
          "whether eval.split is scored before the first step too, to compare with "
          "the end", CONTINUED),
    Field("eval.datasets", "", _SETS,
          "sets that --mode=eval tests on, as cuhk,icfg; empty: data.name. "
          "NAME/VARIANT is one prepared under other settings than data.variant", CONTINUED),
    Field("eval.track_test", False, flag(),
          "whether test is scored too at every evaluation; its best is reported apart", SCORED),
    Field("eval.image_to_text_top_k", 0, _TOP,
          "captions of each image that the decoder scores at the end", CONTINUED),
    Field("eval.save_queries", True, flag(),
          "whether queries.jsonl is written: ranks and ten best images of every "
          "caption", CONTINUED),
    Field("mesh.data", -1, _AXIS, "devices that share a batch", CONTINUED),
    Field("mesh.fsdp", 1, _AXIS, "devices that share a batch and the parameters", CONTINUED),
    Field("mesh.tensor", 1, _AXIS, "devices that share attention heads and MLPs", CONTINUED),
)
# fmt: on
BY_NAME: dict[str, Field] = {field.name: field for field in FIELDS}
