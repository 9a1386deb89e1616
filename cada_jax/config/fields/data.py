"""Fields of the run as a whole, of its data and of augmentation."""

import pathlib

from cada_jax.config.fields.field import CONTINUED, SCORED, Field
from cada_jax.config.kinds import (
    Choice,
    Integer,
    Number,
    Pair,
    Text,
    path_problem,
    variant_problem,
)

# Every folder with a builder is a data set, so that its name is written nowhere else.
_BUILDERS = pathlib.Path(__file__).parents[2].glob("data/datasets/*/builder.py")
DATASETS = tuple(sorted(path.parent.name for path in _BUILDERS))
PIXELS = ("height", "width")
MODEL_SOURCE = "a folder, a .pth or .safetensors file, or pretrained:NAME"
_RATE = Number(0, 1)

FIELDS = (
    Field(
        "seed",
        0,
        Integer(0, 2**32 - 1),
        "the only source of randomness: init, data order, augmentation, masks",
        SCORED,
    ),
    Field(
        "init_from",
        None,
        Text(MODEL_SOURCE, path_problem),
        "weights to start from, None: random ones. An exported model folder, a PyTorch or Hugging "
        "Face checkpoint, or pretrained:NAME, which the package ships",
        SCORED,
    ),
    Field(
        "init_parts",
        "all",
        Choice(("all", "encoders")),
        "what is taken of init_from. encoders: not cross-attention, gate, attribute decoder and "
        "match heads, which start from random values as without init_from",
        SCORED,
    ),
    Field("data.name", "rstp", Choice(DATASETS), "a builder in cada_jax/data/datasets"),
    Field(
        "data.variant",
        None,
        Text("a name", variant_problem),
        "settings that the data was prepared with; None: those of this configuration",
    ),
    Field(
        "data.data_dir",
        None,
        Text("a folder", path_problem),
        "folder of the prepared TFRecords; None: $CADA_DATA_DIR or ~/cada_data",
        CONTINUED,
    ),
    Field(
        "data.image_size",
        (224, 224),
        Pair(PIXELS, Integer(1, 8192)),
        "size of an image in pixels",
    ),
    Field(
        "data.max_length",
        73,
        Integer(3, 2**16),
        "tokens of a caption, [CLS] and [SEP] included",
    ),
    Field(
        "data.captions",
        "all",
        Choice(("all", "first2")),
        "captions of an image that are used: all, or the first two as the released code",
    ),
    Field(
        "data.vocab",
        None,
        Text("a vocabulary: a file or a hub name", path_problem),
        "vocabulary file or hub name; None: the vocabulary stored with the data",
    ),
    Field(
        "data.tagger",
        "pattern",
        Choice(("pattern", "nltk")),
        "part-of-speech tagger: pattern comes with textblob, nltk needs its data",
    ),
    Field(
        "data.tag_unit",
        "word",
        Choice(("word", "wordpiece")),
        "what is tagged: words, or WordPieces as the released code",
    ),
    # Augmentation, on the device and in this order.
    Field("augment.flip", 0.5, _RATE, "probability of a horizontal flip", SCORED),
    Field(
        "augment.pad",
        10,
        Integer(0, 4096),
        "zero pixels added on every side, before normalising and before the crop",
        SCORED,
    ),
    Field("augment.erase", 0.5, _RATE, "probability that one rectangle is erased", SCORED),
    Field(
        "augment.erase_area",
        (0.02, 0.4),
        Pair(("smallest", "largest"), Number(0, 1, above=True), ordered=True),
        "erased fraction of the image, drawn uniformly",
        SCORED,
    ),
    Field(
        "augment.erase_ratio",
        (0.3, 3.3),
        Pair(("smallest", "largest"), Number(0.001, 1000), ordered=True),
        "height / width of the rectangle, drawn log-uniformly",
        SCORED,
    ),
)
