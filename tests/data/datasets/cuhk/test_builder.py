"""TFDS's own checks of the builder, on the folder dummy_data."""

from pathlib import Path

import tensorflow_datasets as tfds

from cada_jax.data.datasets.cuhk.builder import Cuhk
from cada_jax.data.preparation.features import caption_config

VOCABULARY = Path(__file__).parent / "dummy_data" / "vocab.txt"


class CuhkTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Cuhk
    SPLITS = {"train": 3, "val": 1, "test": 1}
    BUILDER_CONFIG_NAMES_TO_TEST = [caption_config(str(VOCABULARY))]
    EXAMPLE_DIR = str(VOCABULARY.parent)
