"""What every builder stores of an image, and the settings that it is stored by.

One example is one image with its captions, cleaned, tokenized and tagged once:

  image: the original file, which `common.images` decodes (TFDS's own decoder knows JPEG, PNG, GIF
    and BMP)
  image_path: where it lay below the source folder
  pid: int64, person number
  captions: sequence of text (cleaned), token_ids int32 [L], phrase_ids int32 [L],
    attribute_mask bool [L]; see `cada_jax.text.attribute_phrases.annotate`
"""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from cada_jax.common.errors import UsageError
from cada_jax.text.taggers import DEFAULT_TAGGER
from cada_jax.text.tokenizer import load_tokenizer
from cada_jax.text.vocabulary import BERT_DIGEST, BERT_VOCABULARY, vocabulary_digest

SHORTEST, LONGEST = 3, 512  # tokens of a caption; BERT has 512 positions


def caption_features(max_length: int) -> tfds.features.FeaturesDict:
    """Returns the features of one image; L = max_length tokens a caption."""
    tokens = tfds.features.Tensor(shape=(max_length,), dtype=np.int32)
    mask = tfds.features.Tensor(shape=(max_length,), dtype=np.bool_)
    captions = {"text": tfds.features.Text(), "token_ids": tokens, "phrase_ids": tokens}
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "image_path": tfds.features.Text(),
            "pid": np.int64,
            "captions": tfds.features.Sequence(captions | {"attribute_mask": mask}),
        }
    )


@dataclasses.dataclass(eq=False)
class CaptionConfig(tfds.core.BuilderConfig):
    """Settings that change what is stored. They make the name, so prepared sets never collide.

    Attributes:
      vocab: vocabulary as a file or a hub name.
      max_length: L, tokens of a caption, [CLS] and [SEP] included.
      tagger: one of `text.taggers.TAGGERS`.
      tag_unit: "word" or "wordpiece".
    """

    vocab: str = BERT_VOCABULARY
    max_length: int = 73
    tagger: str = DEFAULT_TAGGER
    tag_unit: str = "word"


def caption_config(
    vocab: str | None = None,
    max_length: int = 73,
    tagger: str = DEFAULT_TAGGER,
    tag_unit: str = "word",
) -> CaptionConfig:
    """Returns the builder config of these settings (fields of config.data).

    The name is such as "grammar-word-73", and ends in the beginning of the vocabulary's digest
    where that is not BERT's: "grammar-word-73-0a1b2c3d".

    Raises:
      UsageError: a length outside 3 to 512.
      MissingFileError: no such vocabulary.
    """
    if not SHORTEST <= max_length <= LONGEST:
        raise UsageError(
            f"data.max_length (--max_length) is {max_length}, expected {SHORTEST} ([CLS], a token, "
            f"[SEP]) to {LONGEST}"
        )
    name = f"{tagger}-{tag_unit}-{max_length}"
    if vocab and vocab != BERT_VOCABULARY:
        digest = vocabulary_digest(load_tokenizer(vocab).path)
        name += "" if digest == BERT_DIGEST else f"-{digest[:8]}"
    return CaptionConfig(
        name=name,  # pyrefly: ignore[unexpected-keyword]  (a field of TFDS's own dataclass)
        vocab=vocab or BERT_VOCABULARY,
        max_length=max_length,
        tagger=tagger,
        tag_unit=tag_unit,
    )
