"""One split of a prepared set in host memory."""

import dataclasses
import functools
import hashlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.data.preparation.prepared_folder import check_files, read_digests, read_persons
from cada_jax.data.preparation.records import read_split
from cada_jax.data.registry import prepared_builder, undamaged
from cada_jax.text.vocabulary import VOCABULARY_FILE, find_vocabulary, vocabulary_digest


@dataclasses.dataclass(frozen=True)
class Split:
    """One split in host memory: N images, M captions of L tokens.

    Attributes:
      name: "train", "val" or "test".
      dataset: name, variant and version of the prepared set.
      images: object [N], the encoded files as bytes.
      image_paths: N paths below the source folder.
      image_pids: int32 [N], the person in each image.
      texts: M cleaned captions.
      token_ids: int32 [M, L].
      phrase_ids: int32 [M, L].
      attribute_mask: bool [M, L].
      caption_image: int32 [M], the image that each caption describes.
      vocab_path: the vocabulary file that token_ids belong to.
      persons: the id, as published, that each number in image_pids stands for; empty where the
        numbers are the ids.
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
    persons: tuple[str, ...] = ()

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

    def person(self, pid: int) -> int | str:
        """Returns the published id of a person's number."""
        return self.persons[pid] if self.persons else int(pid)

    @functools.cached_property
    def vocabulary_digest(self) -> str:
        """SHA-256 of the vocabulary's entries, see `text.vocabulary.vocabulary_digest`."""
        return vocabulary_digest(self.vocab_path)

    @functools.cached_property
    def data_digest(self) -> str:
        """SHA-256 of the images, persons, captions and tokens in order, and of the vocabulary.

        The same on every machine; independent of where the data lies and of the images' names.
        """
        digest = hashlib.sha256(self.vocabulary_digest.encode())
        texts = [text.encode() for text in self.texts]
        for parts in (self.images, texts):
            digest.update(np.array([len(part) for part in parts], "<i8").tobytes())
            for part in parts:
                digest.update(part)
        arrays = (self.image_pids, self.caption_image, self.token_ids, self.phrase_ids)
        for array in arrays:
            digest.update(np.ascontiguousarray(array, "<i4").tobytes())
        digest.update(np.ascontiguousarray(self.attribute_mask, "u1").tobytes())
        return digest.hexdigest()


def load_split(config: ConfigDict, split: str) -> Split:
    """Reads a split of the set that `config.data` names.

    `data.captions` = "first2" keeps the first two captions of an image. The generated people are
    prepared first if they are missing.

    Raises:
      MissingFileError: the set is not prepared; says how to.
      UsageError: it has no such split, is damaged, or was prepared with another vocabulary or
        max_length.
    """
    builder = check_split(config, split)
    folder = Path(builder.data_dir)
    _check_settings(config, builder, folder / VOCABULARY_FILE)
    with undamaged(config, folder):
        records = list(read_split(builder.info, split))
        persons = read_persons(folder)
        expected = builder.info.splits[split].num_examples
        if len(records) != expected:
            raise UsageError(f"{split} has {len(records)} images, expected {expected}")
    most = 2 if config.data.captions == "first2" else None
    images = np.empty(len(records), object)
    images[:] = [record.image for record in records]
    counts = [len(record.texts[:most]) for record in records]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(record, name)[:most] for record in records])

    return Split(
        name=split,
        dataset=builder.info.full_name,
        images=images,
        image_paths=[record.image_path for record in records],
        image_pids=np.array([record.pid for record in records], np.int32),
        texts=[text for record in records for text in record.texts[:most]],
        token_ids=joined("token_ids"),
        phrase_ids=joined("phrase_ids"),
        attribute_mask=joined("attribute_mask"),
        caption_image=np.repeat(np.arange(len(records), dtype=np.int32), counts),
        vocab_path=folder / VOCABULARY_FILE,
        persons=persons,
    )


def check_split(config: ConfigDict, split: str) -> tfds.core.DatasetBuilder:
    """Checks the files of a prepared split without loading it, before hours are spent on a run.

    Returns:
      The set, by what is stored of it.

    Raises:
      MissingFileError: the set is not prepared; says how to.
      UsageError: it has no such split, or a file is damaged; says how to prepare it again.
    """
    folder = prepared_builder(config).data_dir
    with undamaged(config, folder):
        builder = tfds.builder_from_directory(folder)
        stored = read_digests(folder)[0]
        check_files(folder, [name for name in stored if "tfrecord" not in name])
    if split not in builder.info.splits:
        there = sorted(builder.info.splits)
        raise UsageError(
            f"{builder.info.full_name} has no split {split!r}, it has {there}; choose by "
            "--config.eval.select_on and --config.eval.split"
        )
    with undamaged(config, folder):
        check_files(folder, [Path(path).name for path in builder.info.splits[split].filepaths])
    return builder


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
