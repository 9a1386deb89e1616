"""What is stored of an image is what TFDS would store of it."""

import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from cada_jax.data.preparation.features import caption_features
from cada_jax.data.preparation.tf_example import serialize_example

LENGTH = 9


def random_caption(generator):
    return {
        "text": f"a red coat, caf\u00e9 {generator.integers(1000)}",
        "token_ids": generator.integers(0, 30524, LENGTH).astype(np.int32),
        "phrase_ids": generator.integers(0, LENGTH, LENGTH).astype(np.int32),
        "attribute_mask": generator.integers(0, 2, LENGTH).astype(bool),
    }


@pytest.mark.parametrize("captions", [1, 2, 5])
def test_an_example_is_the_one_of_tfds(captions):
    generator = np.random.default_rng(captions)
    values = {
        "image": generator.bytes(500),
        "image_path": "a/\u00e9.jpg",
        "pid": int(generator.integers(2**40)),
        "captions": [random_caption(generator) for _ in range(captions)],
    }
    ours = serialize_example(**values)
    theirs = caption_features(LENGTH).serialize_example(values)
    parse = tf_example_pb2.Example.FromString
    assert parse(ours) == parse(theirs)
    assert serialize_example(**values) == ours
