"""One split of a prepared set in host memory."""

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.data.registry import prepared_builder
from cada_jax.text.vocabulary import VOCABULARY_FILE, find_vocabulary, vocabulary_digest

CAPTIONS = ("all", "first2")


@dataclasses.dataclass(frozen=True)
class Split:
    """One split in host memory: N images, M captions of L tokens.

    Attributes:
      name: "train", "val" or "test".
      dataset: name, variant and version of the prepared set.
      images: object [N], the encoded JPEG or PNG files as bytes.
      image_paths: N paths below the source folder.
      image_pids: int32 [N], the person in each image.
      texts: M cleaned captions.
      token_ids: int32 [M, L].
      phrase_ids: int32 [M, L].
      attribute_mask: bool [M, L].
      caption_image: int32 [M], the image that each caption describes.
      vocab_path: the vocabulary file that token_ids belong to.
    """

    name: str
    dataset: str
    images: np.ndarray
    image_paths: list[str]
    image_pids: np.ndarray
    texts: list[str]
    token_ids: np.ndarray
    phrase_ids: np.ndarray
    attribute_mask: np.ndarray
    caption_image: np.ndarray
    vocab_path: Path

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.images)

    @property
    def num_captions(self) -> int:
        """M."""
        return len(self.texts)

    @property
    def caption_pids(self) -> np.ndarray:
        """The person that each caption describes, int32 [M]."""
        return self.image_pids[self.caption_image]


def load_split(config: ConfigDict, split: str) -> Split:
    """Reads a split of the set that `config.data` names.

    `data.captions` = "first2" keeps the first two captions of an image. The generated people are
    prepared first if they are missing.

    Raises:
      MissingFileError: the set is not prepared; says how to.
      UsageError: it has no such split, or was prepared with another vocabulary or max_length.
    """
    if config.data.captions not in CAPTIONS:
        raise UsageError(
            f"unknown data.captions {config.data.captions!r}: expected one of {CAPTIONS}"
        )
    # Read by what is stored, not by what the settings say should be: they are compared below.
    builder = tfds.builder_from_directory(prepared_builder(config).data_dir)
    if split not in builder.info.splits:
        there = sorted(builder.info.splits)
        raise UsageError(
            f"{builder.info.full_name} has no split {split!r}, it has {there}; choose by "
            "--config.eval.select_on and --config.eval.split"
        )
    vocab_path = Path(builder.data_dir) / VOCABULARY_FILE
    _check_settings(config, builder, vocab_path)
    examples = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    most = 2 if config.data.captions == "first2" else None
    examples = list(examples.as_numpy_iterator())
    counts = [len(e["captions"]["text"][:most]) for e in examples]
    columns = {
        key: np.concatenate([e["captions"][key][:most] for e in examples])
        for key in ("text", "token_ids", "phrase_ids", "attribute_mask")
    }
    images = np.empty(len(examples), object)
    images[:] = [e["image"] for e in examples]
    return Split(
        name=split,
        dataset=builder.info.full_name,
        images=images,
        image_paths=[e["image_path"].decode() for e in examples],
        image_pids=np.array([e["pid"] for e in examples], np.int32),
        texts=[text.decode() for text in columns["text"]],
        token_ids=columns["token_ids"],
        phrase_ids=columns["phrase_ids"],
        attribute_mask=columns["attribute_mask"],
        caption_image=np.repeat(np.arange(len(examples), dtype=np.int32), counts),
        vocab_path=vocab_path,
    )


def _check_settings(
    config: ConfigDict, builder: tfds.core.DatasetBuilder, vocab_path: Path
) -> None:
    stored = builder.info.features["captions"]["token_ids"].shape[-1]
    if stored != config.data.max_length:
        raise UsageError(
            f"config.data.max_length is {config.data.max_length}, but {builder.data_dir} was "
            f"prepared with {stored}: set --config.data.max_length={stored} or prepare it again"
        )
    if config.data.vocab:
        asked = find_vocabulary(config.data.vocab)
        if vocabulary_digest(asked) != vocabulary_digest(vocab_path):
            raise UsageError(
                f"config.data.vocab {config.data.vocab} is not the vocabulary that "
                f"{builder.data_dir} was prepared with ({vocab_path}): leave data.vocab out, or "
                "prepare the data again with it"
            )
