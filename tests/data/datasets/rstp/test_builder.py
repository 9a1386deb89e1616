"""TFDS's own checks of the builder, on the folder dummy_data."""

from pathlib import Path

import tensorflow_datasets as tfds

from cada_jax.data.datasets.rstp.builder import Rstp
from cada_jax.data.preparation.features import caption_config

VOCABULARY = Path(__file__).parent / "dummy_data" / "vocab.txt"


class RstpTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Rstp
    SPLITS = {"train": 4, "val": 1, "test": 2}
    BUILDER_CONFIG_NAMES_TO_TEST = [caption_config(str(VOCABULARY))]
    EXAMPLE_DIR = str(VOCABULARY.parent)
