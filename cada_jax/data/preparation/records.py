"""One image with its captions as a record of a TFRecord file, written and read back.

TensorFlow is imported in functions: worker processes only serialize.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

SHARD = 8192  # images; 0.1 to 0.3 GB of persons cut out of camera pictures
ARRAYS = {"token_ids": np.int32, "phrase_ids": np.int32, "attribute_mask": bool}  # of a caption


class Record(NamedTuple):
    """One image with its C captions of L tokens.

    Attributes:
      image: the encoded file.
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


def serialize(image: bytes, image_path: str, pid: int, captions: Sequence[dict[str, Any]]) -> bytes:
    """Returns a tf.train.Example, serialized: equal values give equal bytes.

    It equals what TFDS's `FeaturesDict.serialize_example` makes of `caption_features`, which takes
    as long as decoding the image does; this takes a sixth of that.

    Args:
      captions: as `CaptionEncoder.encode` returns them.
    """
    example = tf_example_pb2.Example()  # pyrefly: ignore[missing-attribute]
    feature = example.features.feature  # filled in place: a message handed over is copied
    feature["image"].bytes_list.value.append(image)
    feature["image_path"].bytes_list.value.append(image_path.encode())
    feature["pid"].int64_list.value.append(pid)
    feature["captions/text"].bytes_list.value.extend(c["text"].encode() for c in captions)
    for name in ARRAYS:
        values = feature[f"captions/{name}"].int64_list.value
        for caption in captions:
            values.extend(caption[name].astype(np.int64).tolist())
    return example.SerializeToString(deterministic=True)


def parse(data: bytes, length: int) -> Record:
    """Returns the record of a serialized example, whose captions have `length` tokens."""
    feature = tf_example_pb2.Example.FromString(data).features.feature  # pyrefly: ignore[missing-attribute]
    texts = [text.decode() for text in feature["captions/text"].bytes_list.value]
    arrays = (
        np.array(feature[f"captions/{name}"].int64_list.value, dtype).reshape(len(texts), length)
        for name, dtype in ARRAYS.items()
    )
    return Record(
        feature["image"].bytes_list.value[0],
        feature["image_path"].bytes_list.value[0].decode(),
        feature["pid"].int64_list.value[0],
        texts,
        *arrays,
    )


def write_split(
    examples: Iterable[bytes], template: tfds.core.ShardedFileTemplate
) -> tfds.core.SplitInfo:
    """Writes examples in the order in which they come, holding one of them at a time.

    TFDS's own writer serializes examples itself, and sorts up to a gigabyte of them in memory by
    the hashes of their names.

    Args:
      examples: as `serialize` makes them.

    Returns:
      What `tfds.core.DatasetInfo.set_splits` needs to know of the split.
    """
    import tensorflow as tf

    examples = iter(examples)
    parts, lengths, num_bytes = [], [], 0
    for first in examples:
        parts.append(template.data_dir / f"{template.split}.tfrecord.part{len(parts)}")
        lengths.append(0)
        with tf.io.TFRecordWriter(os.fspath(parts[-1])) as file:
            for example in itertools.chain([first], itertools.islice(examples, SHARD - 1)):
                file.write(example)
                lengths[-1] += 1
                num_bytes += len(example)
    for index, part in enumerate(parts):  # a file's name says how many there are
        part.rename(template.sharded_filepath(shard_index=index, num_shards=len(parts)))
    return tfds.core.SplitInfo(
        name=template.split,
        shard_lengths=lengths,
        num_bytes=num_bytes,
        filename_template=template,
    )


def read_split(info: tfds.core.DatasetInfo, split: str) -> Iterator[Record]:
    """Yields the records of a split, file by file."""
    import tensorflow as tf

    length = info.features["captions"]["token_ids"].shape[-1]
    files = [os.fspath(path) for path in info.splits[split].filepaths]
    for data in tf.data.TFRecordDataset(files).prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
        yield parse(data, length)
