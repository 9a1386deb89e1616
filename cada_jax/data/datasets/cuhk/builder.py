"""CUHK-PEDES: 40206 images of 13003 persons from five re-identification sets."""

from cada_jax.data.datasets.folder_builder import FolderBuilder
from cada_jax.data.preparation.source import Layout


class Cuhk(FolderBuilder):
    """TFDS builder of CUHK-PEDES."""

    LAYOUT = Layout(
        title="CUHK-PEDES",
        folder="CUHK-PEDES",
        annotations=("reid_raw.json",),
        image_key="file_path",
        published={
            "train": (11003, 34054, 68126),
            "val": (1000, 3078, 6158),
            "test": (1000, 3074, 6156),
        },
    )
