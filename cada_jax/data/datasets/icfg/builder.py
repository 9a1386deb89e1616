"""ICFG-PEDES: 54522 images of 4102 persons, one detailed caption each; no validation split."""

from cada_jax.data.datasets.folder_builder import FolderBuilder
from cada_jax.data.preparation.source import Layout


class Icfg(FolderBuilder):
    """TFDS builder of ICFG-PEDES."""

    LAYOUT = Layout(
        title="ICFG-PEDES",
        folder="ICFG-PEDES",
        annotations=("ICFG-PEDES.json", "ICFG_PEDES.json"),
        image_key="file_path",
        published={"train": (3102, 34674, 34674), "test": (1000, 19848, 19848)},
    )
