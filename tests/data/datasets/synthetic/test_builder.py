"""TFDS's own checks of the builder, on the variant for tests; it needs no dummy data."""

from pathlib import Path

import tensorflow_datasets as tfds

from cada_jax.data.datasets.synthetic.builder import Synthetic


class SyntheticTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Synthetic
    SPLITS = {"train": 72, "val": 24, "test": 24}
    BUILDER_CONFIG_NAMES_TO_TEST = ["tiny"]
    EXAMPLE_DIR = str(Path(__file__).parent)
