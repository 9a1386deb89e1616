"""Serialized examples to the TFRecord files of one split, under the names that TFDS reads."""

import itertools
import os
from collections.abc import Iterable

import tensorflow as tf
import tensorflow_datasets as tfds

SHARD = 8192  # images; 0.1 to 0.3 GB of persons cut out of camera pictures


def write_split(
    examples: Iterable[bytes], template: tfds.core.ShardedFileTemplate
) -> tfds.core.SplitInfo:
    """Writes examples in the order in which they come, holding one of them at a time.

    TFDS's own writer serializes examples itself, and sorts up to a gigabyte of them in memory by
    the hashes of their names.

    Args:
      examples: as `example.serialize_example` makes them.
      template: names the folder, the data set and the split.

    Returns:
      What `tfds.core.DatasetInfo.set_splits` needs to know of the split.

    Raises:
      tf.errors.OpError: a file cannot be written.
    """
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
