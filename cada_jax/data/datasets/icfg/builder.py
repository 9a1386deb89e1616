"""ICFG-PEDES: 54522 images of 4102 persons, one detailed caption each; no validation split."""

from cada_jax.data.datasets.published import FolderBuilder
from cada_jax.data.preparation.layout import Layout


class Icfg(FolderBuilder):
    """TFDS builder of ICFG-PEDES."""

    LAYOUT = Layout(
        title="ICFG-PEDES",
        folder="ICFG-PEDES",
        annotations=("ICFG-PEDES.json", "ICFG_PEDES.json"),
        image_key="file_path",
        splits={"train": (3102, 34674, 34674), "test": (1000, 19848, 19848)},
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder as its authors give it out: ICFG-PEDES.json and the images under imgs/."
    )
