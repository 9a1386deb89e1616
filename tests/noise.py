"""Noise in place of prepared data: splits in memory that `training.run.train` takes as `data`."""

import io
import os
import pathlib

import numpy as np
from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.data.prepared_data import PreparedData
from cada_jax.data.split import Split

PERSONS = {"train": 6, "val": 3, "test": 4}


def write_words(folder: pathlib.Path) -> pathlib.Path:
    """A vocabulary of 200 entries, with special tokens where the tiny configuration has them."""
    words = ["[PAD]", *(f"word{i}" for i in range(1, 198)), "[DEC]", "[ENC]"]
    words[100:104] = "[UNK]", "[CLS]", "[SEP]", "[MASK]"
    path = folder / f"words{os.getpid()}.txt"
    path.write_text("\n".join(words) + "\n")
    return path


def make_split(name: str, persons: int, config, vocab_path: pathlib.Path) -> Split:
    """Two noise images of every person, two captions of random words to each."""
    rng = np.random.default_rng(persons)
    height, width = config.data.image_size
    images, captions = 2 * persons, 4 * persons
    files = np.empty(images, object)
    for i in range(images):
        file = io.BytesIO()
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        files[i] = file.getvalue()
    tokens = config.model.tokens
    token_ids = rng.integers(110, 190, (captions, config.data.max_length), dtype=np.int32)
    token_ids[:, 0], token_ids[:, 12], token_ids[:, 13:] = tokens.cls, tokens.sep, tokens.pad
    phrase_ids = np.zeros_like(token_ids)
    phrase_ids[:, 2:4], phrase_ids[:, 6:9] = 1, 2
    return Split(
        name=name,
        dataset="noise/1.0.0",
        images=files,
        image_paths=[f"{i}.png" for i in range(images)],
        image_pids=np.repeat(np.arange(persons, dtype=np.int32), 2),
        texts=[f"a person, number {i // 4}" for i in range(captions)],
        token_ids=token_ids,
        phrase_ids=phrase_ids,
        attribute_mask=phrase_ids > 0,
        caption_image=np.repeat(np.arange(images, dtype=np.int32), 2),
        vocab_path=vocab_path,
    )


class NoiseData(PreparedData):
    """Splits in memory.

    Attributes:
      splits: by name; may be changed.
      during: None, or a function (number of the batch) that is called before each is given out.
    """

    def __init__(self, config, folder: pathlib.Path):
        self.vocab_path = write_words(folder)
        self.splits = {
            name: make_split(name, n, config, self.vocab_path) for name, n in PERSONS.items()
        }
        self.during = None

    def training(self, config) -> Split:
        return self.splits["train"]

    def split(self, config, name: str) -> Split:
        if name not in self.splits:
            raise UsageError(f"noise has no split {name!r}, it has {sorted(self.splits)}")
        return self.splits[name]

    def split_names(self, config) -> list[str]:
        return list(self.splits)

    def batches(self, *arguments):
        for number, batch in enumerate(super().batches(*arguments)):
            if self.during is not None:
                self.during(number)
            yield batch
