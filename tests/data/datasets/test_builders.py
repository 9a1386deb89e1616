"""TFDS's own checks of the builders, of the published sets on the folders dummy_data."""

import tensorflow_datasets as tfds

from cada_jax.data import registry
from cada_jax.data.datasets.synthetic.builder import Synthetic
from cada_jax.data.preparation.features import caption_config
from tests.conftest import DATASETS


def checks_of(name: str, **splits: int) -> type:
    """A test case of a published set with so many images in its splits."""
    folder = DATASETS / name / "dummy_data"
    fields = {
        "DATASET_CLASS": registry.PUBLISHED[name],
        "SPLITS": splits,
        "EXAMPLE_DIR": str(folder),
        "BUILDER_CONFIG_NAMES_TO_TEST": [caption_config(str(folder / "vocab.txt"))],
    }
    return type(f"{name}Test", (tfds.testing.DatasetBuilderTestCase,), fields)


CuhkTest = checks_of("cuhk", train=3, val=1, test=1)
IcfgTest = checks_of("icfg", train=2, test=2)
RstpTest = checks_of("rstp", train=4, val=1, test=2)


class SyntheticTest(tfds.testing.DatasetBuilderTestCase):
    """Of the variant for tests; it draws itself."""

    DATASET_CLASS = Synthetic
    SPLITS = {"train": 72, "val": 24, "test": 24}
    BUILDER_CONFIG_NAMES_TO_TEST = ["tiny"]
    EXAMPLE_DIR = str(DATASETS)


def test_a_set_is_prepared_where_the_configuration_looks_for_it():
    """TFDS would name a class MyPeople my_people."""
    assert {name: builder.name for name, builder in registry.FOLDERS.items()} == {
        name: name for name in registry.FOLDERS
    }

    class MyPeople(registry.FolderBuilder, skip_registration=True):
        LAYOUT = registry.PUBLISHED["rstp"].LAYOUT
        __module__ = "cada_jax.data.datasets.mypeople.builder"

    assert MyPeople.name == "mypeople"
