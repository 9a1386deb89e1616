"""Records are what TFDS would store, in order, in shards of bounded size."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from cada_jax.data.preparation import records
from cada_jax.data.preparation.features import caption_features

LENGTH = 9


def random_caption(generator):
    return {
        "text": f"a red coat, caf\u00e9 {generator.integers(1000)}",
        "token_ids": generator.integers(0, 30524, LENGTH).astype(np.int32),
        "phrase_ids": generator.integers(0, LENGTH, LENGTH).astype(np.int32),
        "attribute_mask": generator.integers(0, 2, LENGTH).astype(bool),
    }


@pytest.mark.parametrize("captions", [0, 1, 5])
def test_a_record_is_the_one_of_tfds_and_is_read_back_as_written(captions):
    generator = np.random.default_rng(captions)
    values = {
        "image": generator.bytes(500),
        "image_path": "a/\u00e9.jpg",
        "pid": int(generator.integers(2**31)),
        "captions": [random_caption(generator) for _ in range(captions)],
    }
    ours = records.serialize(**values)
    if captions:  # TFDS leaves an empty list out, and reads it back from an empty one as well
        theirs = caption_features(LENGTH).serialize_example(values)
        assert tf_example_pb2.Example.FromString(ours) == tf_example_pb2.Example.FromString(theirs)
    record = records.parse(ours, LENGTH)
    assert record[:3] == (values["image"], values["image_path"], values["pid"])
    assert record.texts == [caption["text"] for caption in values["captions"]]
    for name, dtype in records.ARRAYS.items():
        array = getattr(record, name)
        assert array.shape == (captions, LENGTH) and array.dtype == dtype
        for row, caption in zip(array, values["captions"], strict=True):
            np.testing.assert_array_equal(row, caption[name])


@pytest.mark.parametrize(("number", "lengths"), [(1, [1]), (4, [4]), (5, [4, 1]), (12, [4, 4, 4])])
def test_examples_are_taken_one_by_one_and_keep_their_order(tmp_path, monkeypatch, number, lengths):
    """A data set need not fit in memory."""
    written = []

    class Writer(tf.io.TFRecordWriter):
        def write(self, record):
            super().write(record)
            written.append(record)

    def examples():
        for i in range(number):
            assert len(written) == i
            yield f"example {i}".encode()

    monkeypatch.setattr(records, "SHARD", 4)
    monkeypatch.setattr(tf.io, "TFRecordWriter", Writer)
    template = tfds.core.ShardedFileTemplate(
        data_dir=tmp_path, dataset_name="numbers", split="train", filetype_suffix="tfrecord"
    )
    split = records.write_split(examples(), template)
    assert split.shard_lengths == lengths and split.num_bytes == sum(map(len, written))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(split.filenames)
    stored = tf.data.TFRecordDataset([str(path) for path in split.filepaths])
    assert list(stored.as_numpy_iterator()) == written and len(written) == number
