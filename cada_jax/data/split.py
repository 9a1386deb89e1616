"""One split of a prepared set in host memory."""

import dataclasses
import functools
import hashlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.data.preparation.digests import changed_file, read_digests
from cada_jax.data.preparation.persons import read_persons
from cada_jax.data.preparation.records import ContentDigest, Record, damaged_file, read_records
from cada_jax.data.registry import prepare_again, prepared_builder
from cada_jax.text.vocabulary import VOCABULARY_FILE, find_vocabulary, vocabulary_digest

CAPTIONS = ("all", "first2")
_CHANGED = "is not the file that was written there (its digest differs)"


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
    persons: tuple[int | str, ...] = ()

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
        digest = ContentDigest()
        bounds = np.searchsorted(self.caption_image, np.arange(self.num_images + 1))
        for i, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            arrays = (self.token_ids, self.phrase_ids, self.attribute_mask)
            rows = (array[start:stop] for array in arrays)
            image, pid, texts = self.images[i], int(self.image_pids[i]), self.texts[start:stop]
            digest.add(Record(image, "", pid, texts, *rows))
        return _with_vocabulary(digest.hexdigest(), self.vocabulary_digest)


def _with_vocabulary(content: str, vocabulary: str) -> str:
    return hashlib.sha256(f"{content} {vocabulary}".encode()).hexdigest()


def load_split(config: ConfigDict, split: str) -> Split:
    """Reads a split of the set that `config.data` names.

    `data.captions` = "first2" keeps the first two captions of an image. The generated people are
    prepared first if they are missing.

    Raises:
      MissingFileError: the set is not prepared; says how to.
      UsageError: it has no such split, is damaged, or was prepared with another vocabulary or
        max_length.
    """
    if config.data.captions not in CAPTIONS:
        raise UsageError(
            f"unknown data.captions {config.data.captions!r}: expected one of {CAPTIONS}"
        )
    # Read by what is stored, not by what the settings say should be: they are compared below.
    builder = tfds.builder_from_directory(prepared_builder(config).data_dir)
    _split_info(builder, split)
    vocab_path = Path(builder.data_dir) / VOCABULARY_FILE
    _check_settings(config, builder, vocab_path)
    try:
        records = _read_checked(builder, split)
    except UsageError as err:
        raise UsageError(
            f"the prepared data in {builder.data_dir} is damaged: {err}. {prepare_again(config)}"
        ) from err
    most = 2 if config.data.captions == "first2" else None
    images = np.empty(len(records), object)
    images[:] = [record.image for record in records]
    counts = [len(record.texts[:most]) for record in records]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(record, name)[:most] for record in records])

    pids, persons = _person_numbers([record.pid for record in records])
    return Split(
        name=split,
        dataset=builder.info.full_name,
        images=images,
        image_paths=[record.image_path for record in records],
        image_pids=pids,
        texts=[text for record in records for text in record.texts[:most]],
        token_ids=joined("token_ids"),
        phrase_ids=joined("phrase_ids"),
        attribute_mask=joined("attribute_mask"),
        caption_image=np.repeat(np.arange(len(records), dtype=np.int32), counts),
        vocab_path=vocab_path,
        persons=persons or read_persons(builder.data_dir),
    )


def check_split(config: ConfigDict, split: str) -> None:
    """Checks the files of a prepared split without loading it, before hours are spent on a run.

    SHA-256 over its files, 1.4 GB a second of one core; TFRecord's checksums for sets prepared
    before there were digests.

    Raises:
      MissingFileError: the set is not prepared; says how to.
      UsageError: it has no such split, or a file is damaged; says how to prepare it again.
    """
    builder = tfds.builder_from_directory(prepared_builder(config).data_dir)
    info = _split_info(builder, split)
    names = [Path(path).name for path in info.filepaths]
    if read_digests(builder.data_dir):
        changed = changed_file(builder.data_dir, names)
        defect = changed and f"{changed} {_CHANGED}"
    else:
        defect = damaged_file([str(path) for path in info.filepaths])
    if defect:
        raise UsageError(
            f"the prepared data in {builder.data_dir} is damaged: {defect}. {prepare_again(config)}"
        )


def _split_info(builder: tfds.core.DatasetBuilder, split: str) -> tfds.core.SplitInfo:
    if split not in builder.info.splits:
        there = sorted(builder.info.splits)
        raise UsageError(
            f"{builder.info.full_name} has no split {split!r}, it has {there}; choose by "
            "--config.eval.select_on and --config.eval.split"
        )
    return builder.info.splits[split]


def _read_checked(builder: tfds.core.DatasetBuilder, name: str) -> list[Record]:
    """The records of a split; UsageError unless they are the ones that were written."""
    info = builder.info
    split, length = info.splits[name], info.features["captions"]["token_ids"].shape[-1]
    records, digest = [], ContentDigest()
    for record in read_records(split, info.disable_shuffling):
        if record.token_ids.shape[1] != length:
            found = record.token_ids.shape[1]
            raise UsageError(
                f"a caption of {name} has {found} tokens, expected {length} by features.json"
            )
        digest.add(record)
        records.append(record)
    if len(records) != split.num_examples:
        raise UsageError(
            f"{name} has {len(records)} images, expected {split.num_examples} by dataset_info.json"
        )
    stored = read_digests(builder.data_dir)
    if stored and stored["splits"].get(name) != digest.hexdigest():
        files = [Path(path).name for path in split.filepaths]
        changed = changed_file(builder.data_dir, files) or f"a file of {name}"
        raise UsageError(f"{changed} {_CHANGED}")
    return records


def _person_numbers(pids: list[int]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Person numbers as int32, and the ids of sets that were prepared with larger ones."""
    wide = np.array(pids, np.int64)
    if wide.min() >= 0 and wide.max() <= np.iinfo(np.int32).max:
        return wide.astype(np.int32), ()
    known, numbers = np.unique(wide, return_inverse=True)
    return numbers.astype(np.int32), tuple(known.tolist())


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
