"""Where a run's splits and batches come from: one object, so that tests can give another."""

from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from cada_jax.data import batches, mixture
from cada_jax.data.registry import prepared_builder
from cada_jax.data.split import Split, load_split


class PreparedData:
    """Prepared sets on disk, as `config.data` and `config.train.datasets` name them."""

    def training(self, config: ConfigDict) -> Split:
        """The split that is trained on; see `mixture.load_training`."""
        return mixture.load_training(config)

    def split(self, config: ConfigDict, name: str) -> Split:
        """A split by name; see `split.load_split`."""
        return load_split(config, name)

    def split_names(self, config: ConfigDict) -> list[str]:
        """The splits that there are; see `registry.prepared_builder` for what it raises."""
        return list(prepared_builder(config).info.splits)

    def batches(
        self, split: Split, config: ConfigDict, start: int, index: int, count: int
    ) -> Iterator[dict[str, np.ndarray]]:
        """Training batches from step `start` on; see `batches.train_batches`."""
        return batches.train_batches(split, config, start, index, count)


PREPARED = PreparedData()
