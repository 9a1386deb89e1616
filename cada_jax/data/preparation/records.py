"""Prepared records, read back from their files in the order in which TFDS reads them."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf import message
from tensorflow_datasets.proto import tf_example_pb2

from cada_jax.common.errors import UsageError

# How TFDS mixes the shards of a split whose order it chose itself (tfds.ReadConfig's defaults).
INTERLEAVED, BLOCK = 16, 16


class Record(NamedTuple):
    """One image with its C captions of L tokens.

    Attributes:
      image: the encoded JPEG or PNG file.
      image_path: below the source folder.
      pid: person number.
      texts: cleaned captions.
      token_ids: int32 [C,L].
      phrase_ids: int32 [C,L].
      attribute_mask: bool [C,L].
    """

    image: bytes
    image_path: str
    pid: int
    texts: list[str]
    token_ids: np.ndarray
    phrase_ids: np.ndarray
    attribute_mask: np.ndarray


class ContentDigest:
    """SHA-256 of records, in order: images, persons, captions and tokens, but no paths.

    The same on every machine: it does not depend on how records are cut into files.
    """

    def __init__(self):
        self._hash = hashlib.sha256()

    def add(self, record: Record) -> None:
        """Takes one more record in."""
        texts = [text.encode() for text in record.texts]
        sizes = [len(record.image), record.pid, *record.token_ids.shape, *map(len, texts)]
        self._hash.update(np.array(sizes, "<i8").tobytes())
        self._hash.update(record.image)
        self._hash.update(b"".join(texts))
        for array, kind in zip(record[4:], ("<i4", "<i4", "u1"), strict=True):
            self._hash.update(np.ascontiguousarray(array, kind).tobytes())

    def hexdigest(self) -> str:
        """Returns the digest of everything added, in hexadecimal."""
        return self._hash.hexdigest()


def parse_record(data: bytes) -> Record:
    """Returns a record from the bytes of its tf.train.Example.

    Raises:
      ValueError: the bytes are no such record.
    """
    try:
        feature = tf_example_pb2.Example.FromString(data).features.feature  # pyrefly: ignore[missing-attribute]
        texts = [text.decode() for text in feature["captions/text"].bytes_list.value]

        def array(name: str, dtype: type) -> np.ndarray:
            values = np.array(feature[f"captions/{name}"].int64_list.value, dtype)
            return values.reshape(len(texts), -1)

        return Record(
            image=feature["image"].bytes_list.value[0],
            image_path=feature["image_path"].bytes_list.value[0].decode(),
            pid=feature["pid"].int64_list.value[0],
            texts=texts,
            token_ids=array("token_ids", np.int32),
            phrase_ids=array("phrase_ids", np.int32),
            attribute_mask=array("attribute_mask", bool),
        )
    except (IndexError, ValueError, message.DecodeError) as err:
        raise ValueError(f"it is no record of an image with its captions ({err})") from err


def read_records(split: tfds.core.SplitInfo, ordered: bool) -> Iterator[Record]:
    """Yields the records of a split; TFRecord's checksums are checked on the way.

    Args:
      split: of `builder.info.splits`.
      ordered: whether the records keep the order they were written in (`disable_shuffling`).

    Raises:
      UsageError: a file is damaged or missing, or holds something else; names it.
    """
    files = [str(path) for path in split.filepaths]
    if ordered or len(files) == 1:
        records = tf.data.TFRecordDataset(files)
    else:
        records = tf.data.Dataset.from_tensor_slices(files).interleave(
            tf.data.TFRecordDataset,
            cycle_length=INTERLEAVED,
            block_length=BLOCK,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    # A local name: a generator left open is closed when modules may be gone already.
    file_errors = (tf.errors.OpError, ValueError)
    try:
        for data in records.prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
            yield parse_record(data)
    except file_errors as err:
        raise UsageError(damaged_file(files) or f"records of {split.name}: {err}") from err


def damaged_file(files: Sequence[str]) -> str | None:
    """Returns which of some TFRecord files is damaged, None if all can be read."""
    for file in files:
        try:
            for data in tf.data.TFRecordDataset([file]).as_numpy_iterator():
                parse_record(data)
        except tf.errors.DataLossError:
            return f"{Path(file).name} is damaged: a checksum in it is wrong"
        except (tf.errors.OpError, ValueError) as err:
            reason = getattr(err, "message", None) or err
            return f"{Path(file).name} cannot be read: {reason}"
    return None
