"""Files of records: in order, named as TFDS expects, in shards of bounded size."""

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from cada_jax.data.preparation import tfrecord_writer


@pytest.mark.parametrize(
    ("number", "lengths"), [(1, [1]), (4, [4]), (5, [4, 1]), (12, [4, 4, 4]), (14, [4, 4, 4, 2])]
)
def test_examples_keep_their_order_over_shards(tmp_path, monkeypatch, number, lengths):
    monkeypatch.setattr(tfrecord_writer, "SHARD", 4)
    template = tfds.core.ShardedFileTemplate(
        data_dir=tmp_path, dataset_name="numbers", split="train", filetype_suffix="tfrecord"
    )
    examples = [f"example {i}".encode() for i in range(number)]
    split = tfrecord_writer.write_split(iter(examples), template)
    assert split.shard_lengths == lengths
    assert split.num_bytes == sum(map(len, examples))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(split.filenames)
    records = tf.data.TFRecordDataset([str(path) for path in split.filepaths])
    assert list(records.as_numpy_iterator()) == examples


def test_examples_are_taken_one_by_one(tmp_path):
    """A data set need not fit in memory."""
    written = []

    class Writer(tf.io.TFRecordWriter):
        def write(self, record):
            super().write(record)
            written.append(record)

    def examples():
        for i in range(5):
            assert len(written) == i
            yield bytes([i])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.io, "TFRecordWriter", Writer)
        template = tfds.core.ShardedFileTemplate(
            data_dir=tmp_path, dataset_name="numbers", split="val", filetype_suffix="tfrecord"
        )
        tfrecord_writer.write_split(examples(), template)
    assert len(written) == 5
