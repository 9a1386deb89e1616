"""A trained model and the captions and images that it is measured on."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.data.batches import gallery_batches
from cada_jax.data.split import Split, load_split
from cada_jax.distributed.batch import put_rows
from cada_jax.distributed.mesh import batch_divisor, process_batch_slice
from cada_jax.retrieval.encode import encode_gallery, pipelined
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retriever import Retriever, load_model
from cada_jax.text.vocabulary import check_model_tokens, vocabulary_digest
from tools.probing.truth import Truth, read_truth

SEED = 0
CELLS = 2**25  # numbers of the largest array of a batch: 128 MB in float32


@dataclasses.dataclass(frozen=True)
class Subject:
    """What every measurement reads: Q captions of L tokens, all G images of the split.

    Attributes:
      name: of the model, as it was asked for.
      retriever: the model; `data` of its config is that of the split.
      split: from `data.split.load_split`.
      gallery: its images, encoded.
      chosen: int [Q], the captions that are measured, among those of the split.
      wrong: int [Q] in [0,G), an image of another person for each of them.
      truth: what is true of the generated people; None for photographs.
    """

    name: str
    retriever: Retriever
    split: Split
    gallery: EncodedImages
    chosen: np.ndarray
    wrong: np.ndarray
    truth: Truth | None

    @property
    def token_ids(self) -> np.ndarray:
        """int32 [Q,L]."""
        return self.split.token_ids[self.chosen]

    @property
    def right(self) -> np.ndarray:
        """The image that each caption describes, int [Q] in [0,G)."""
        return self.split.caption_image[self.chosen]

    @property
    def pids(self) -> np.ndarray:
        """The person that each caption describes, int [Q]."""
        return self.split.caption_pids[self.chosen]

    @property
    def texts(self) -> list[str]:
        """Q cleaned captions."""
        return [self.split.texts[i] for i in self.chosen]


def config_for(config: ConfigDict, dataset: str, data_dir: str | None) -> ConfigDict:
    """A model's config with the `data` of a set.

    Args:
      config: full config.
      dataset: NAME or NAME/VARIANT: "synthetic/demo", "rstp".
      data_dir: as `config.data.data_dir`.
    """
    name, _, variant = dataset.partition("/")
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.name, config.data.variant = name, variant or None
        config.data.data_dir, config.data.vocab = data_dir, None
    return config


def load_subject(
    model: str, dataset: str, split_name: str, limit: int | None, data_dir: str | None = None
) -> Subject:
    """Loads a model and a split, and encodes the images.

    Args:
      model: as `load_model` takes it.
      dataset: as `config_for` takes it.
      split_name: "train", "val" or "test".
      limit: of so many captions, drawn with a fixed seed; None for all.
      data_dir: the folder of prepared sets, None for the usual one.

    Raises:
      UsageError: the model or the set is not there, or the two have different vocabularies.
    """
    retriever = load_model(model)
    config = config_for(retriever.config, dataset, data_dir)
    retriever = dataclasses.replace(retriever, config=config)
    split = load_split(config, split_name)
    check_model_tokens(config, split.vocab_path)
    if split.vocabulary_digest != vocabulary_digest(retriever.tokenizer.path):
        raise UsageError(
            f"--model={model} reads another vocabulary than {dataset} was prepared with "
            f"({split.vocab_path}): choose a model that was trained on this set, or prepare the "
            "set with the model's vocabulary"
        )
    return make_subject(model, retriever, split, limit)


def make_subject(name: str, retriever: Retriever, split: Split, limit: int | None) -> Subject:
    """Encodes the images of a split and chooses captions; arguments as of `load_subject`.

    Raises:
      UsageError: there is one person only, so that there are no wrong images.
    """
    if len(np.unique(split.image_pids)) < 2:
        raise UsageError(f"{split.dataset} {split.name} shows one person, expected at least two")
    rng = np.random.default_rng(SEED)
    chosen = np.sort(rng.permutation(split.num_captions)[:limit])
    wrong = other_images(split.caption_pids[chosen], split.image_pids, rng)
    truth = read_truth(retriever.config, split)
    return Subject(name, retriever, split, encode_images(retriever, split), chosen, wrong, truth)


def encode_images(retriever: Retriever, split: Split) -> EncodedImages:
    """All images of a split, encoded."""
    return encode_gallery(retriever, image_batches(retriever, split), split.num_images)


def image_batches(retriever: Retriever, split: Split) -> Iterator[dict[str, Any]]:
    """The images of a split, as `encode_gallery` takes them."""
    batch = retriever.config.eval.batch_size
    return gallery_batches(split, retriever.config, batch, *process_batch_slice(retriever.mesh))


def other_images(pids: np.ndarray, image_pids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws an image of another person for each of int [Q] persons: int [Q] in [0,G)."""
    drawn = rng.integers(len(image_pids), size=len(pids))
    while (same := image_pids[drawn] == pids).any():
        drawn[same] = rng.integers(len(image_pids), size=int(same.sum()))
    return drawn


def in_batches(
    subject: Subject,
    program: Callable[..., tuple],
    count: int,
    cells: int,
    inputs: Callable[[np.ndarray], tuple[Any, ...]],
) -> list[np.ndarray]:
    """What a program gives for many rows, batch by batch.

    Args:
      subject: its network runs the program.
      program: jitted, (model, params, *arrays of b rows) -> a tuple of arrays of b rows.
      count: of rows in all.
      cells: numbers that the largest array has for each row, which bounds the batch.
      inputs: row numbers int [b] -> arrays of b rows.

    Returns:
      The arrays of all rows, `count` each.
    """
    network = subject.retriever
    devices = batch_divisor(network.mesh)
    most = min(network.config.eval.batch_size, CELLS // cells, count)
    batch = -(-max(most, 1) // devices) * devices

    def launch(start: int) -> tuple:
        rows = np.minimum(np.arange(start, start + batch), count - 1)  # the last one fills it up
        return network.run(program, *(put_rows(x, network.mesh) for x in inputs(rows)))

    parts = [found for _, found in pipelined(range(0, count, batch), launch)]
    return [np.concatenate(arrays)[:count] for arrays in zip(*parts, strict=True)]
