"""Prepared records to batches: decode, resize, shuffle, shard by host.

A split stays in host memory as its encoded files (RSTPReid 0.2 GB, ICFG-PEDES 1 GB), so that the
batch of any step is found by index: the batch is a pure function of (seed, step), and a
resumed run goes on where the stopped one was.
"""

import functools
from collections.abc import Iterator

import jax
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.common.images import PictureError, read_resized
from cada_jax.data.registry import hide_accelerators
from cada_jax.data.split import Split
from cada_jax.text import padding

PREFETCH = 4  # batches


def steps_per_epoch(split: Split, config: ConfigDict) -> int:
    """Returns the number of whole batches of image-caption pairs in an epoch.

    Raises:
      UsageError: train.batch_size is larger than the number of pairs.
    """
    batch = config.train.batch_size
    if not 1 <= batch <= split.num_captions:
        raise UsageError(
            f"config.train.batch_size is {batch}, expected 1 to {split.num_captions}, the "
            f"image-caption pairs of {split.dataset} {split.name}"
        )
    return split.num_captions // batch


def epoch_order(num_pairs: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of an epoch: a permutation of range(num_pairs), int64."""
    key = np.array([seed % 2**64, epoch], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(num_pairs)


def train_batches(
    split: Split,
    config: ConfigDict,
    start_step: int,
    process_index: int | None = None,
    process_count: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields this host's share of the global batches start_step, start_step + 1, ... for ever.

    An epoch passes over all image-caption pairs in an order made of (config.seed, epoch) and
    drops what is left after its last whole batch. Every host takes its contiguous rows of the
    same global batch. Captions are cut to the l <= L tokens that the longest of the global batch
    needs, see `padding.batch_length`.

    Args:
      config: reads seed, data.image_size, train.batch_size (B), and whether padding matters.
      start_step: number of batches done before.
      process_index: which host this is, by default JAX's answer.
      process_count: number of hosts P, by default JAX's answer.

    Yields:
      image uint8 [B/P,H,W,3]; token_ids, phrase_ids int32 and attribute_mask bool [B/P,l];
      pid int32 [B/P].

    Raises:
      UsageError: B does not fit the split or the hosts; an image cannot be decoded.
    """
    steps, batch = steps_per_epoch(split, config), config.train.batch_size
    rows = _host_rows(batch, "config.train.batch_size", process_index, process_count)
    seed, pairs = config.seed, split.num_captions

    @functools.lru_cache(maxsize=PREFETCH)
    def batches_of(epoch: int) -> np.ndarray:
        return epoch_order(pairs, seed, epoch)[: steps * batch].reshape(steps, batch)

    def share(epoch) -> np.ndarray:
        return batches_of(int(epoch))[:, rows].reshape(-1)

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.numpy_function(share, [epoch], tf.int64, stateful=False)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(order, [None]))

    first, skip = divmod(start_step, steps)
    share_size = rows.stop - rows.start
    captions = tf.data.Dataset.range(first, np.iinfo(np.int64).max).flat_map(of_epoch)
    captions = captions.skip(skip * share_size)
    image_of = tf.constant(split.caption_image)
    indices = captions.map(lambda caption: (caption, tf.gather(image_of, caption)))
    decoded = _decoded(split, indices, config.data.image_size, share_size)
    for step, (chosen, image) in enumerate(decoded, start_step):
        everybody = batches_of(step // steps)[step % steps]
        length = padding.batch_length(split.token_ids[everybody], config)
        yield padding.cut_batch(_rows(split, chosen, image), length)


def _rows(split: Split, chosen: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of a training batch, of which `image` are decoded already."""
    return {
        "image": image,
        "token_ids": split.token_ids[chosen],
        "phrase_ids": split.phrase_ids[chosen],
        "attribute_mask": split.attribute_mask[chosen],
        "pid": split.caption_pids[chosen],
    }


def gallery_batches(
    split: Split,
    config: ConfigDict,
    batch: int,
    process_index: int | None = None,
    process_count: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields all images in order, in batches of one size; row i of batch j is image j*batch + i.

    Each host takes its contiguous rows of the global batch, b = batch / process_count of them.

    Yields:
      image uint8 [b,H,W,3], pid int32 [b], valid bool [b]; rows that only fill the last batch up
      repeat the last image and are not valid.
    """
    rows = _host_rows(batch, "config.eval.batch_size", process_index, process_count)
    chosen, valid = _padded_rows(split.num_images, batch, rows)
    indices = tf.data.Dataset.from_tensor_slices((chosen.reshape(-1), chosen.reshape(-1)))
    images = _decoded(split, indices, config.data.image_size, rows.stop - rows.start)
    for (index, image), ok in zip(images, valid, strict=True):
        yield {"image": image, "pid": split.image_pids[index], "valid": ok}


def query_batches(
    split: Split,
    config: ConfigDict,
    batch: int,
    process_index: int | None = None,
    process_count: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields all captions in order, as `gallery_batches` does images.

    Yields:
      token_ids int32 [b,L], pid int32 [b], valid bool [b].
    """
    del config  # the split has the caption protocol applied
    rows = _host_rows(batch, "config.eval.batch_size", process_index, process_count)
    for index, ok in zip(*_padded_rows(split.num_captions, batch, rows), strict=True):
        yield {"token_ids": split.token_ids[index], "pid": split.caption_pids[index], "valid": ok}


def _host_rows(batch: int, field: str, index: int | None, count: int | None) -> slice:
    """The rows of a global batch that belong to this host."""
    index = jax.process_index() if index is None else index
    count = jax.process_count() if count is None else count
    if batch % count:
        raise UsageError(f"{field} is {batch}, expected a multiple of the {count} hosts")
    return slice(index * batch // count, (index + 1) * batch // count)


def _padded_rows(number: int, batch: int, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Indices [steps, b] of this host's rows, the last one repeated, and which are real."""
    steps = -(-number // batch)
    index = np.arange(steps * batch).reshape(steps, batch)[:, rows]
    return np.minimum(index, number - 1), index < number


def _decoded(
    split: Split, indices: tf.data.Dataset, size: tuple[int, int], batch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (index [batch], uint8 images [batch,H,W,3]) for a dataset of (index, image number)."""
    hide_accelerators()
    failed: list[UsageError] = []

    def read(image: np.int32) -> np.ndarray:
        # By Pillow, as search reads: TensorFlow's own decoder and resizing give other pixels.
        try:
            return read_resized(split.images[image], size)
        except PictureError as err:
            where = f"{split.dataset} {split.name}: image {split.image_paths[image]}"
            failed.append(UsageError(f"{where} {err}; replace the file and prepare the data again"))
            raise

    def decode(index: tf.Tensor, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # A file is read when it is wanted: a tensor of them would hold all a second time.
        pixels = tf.numpy_function(read, [image], tf.uint8, stateful=False)
        return index, tf.ensure_shape(pixels, (*size, 3))

    decoded = indices.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    batches = decoded.batch(batch, drop_remainder=True).prefetch(PREFETCH)
    # A local name: a generator left open is closed when modules may be gone already.
    stopped = tf.errors.OpError
    try:
        yield from batches.as_numpy_iterator()
    except stopped as err:
        raise (failed[0] if failed else err) from err
