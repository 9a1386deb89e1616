"""CUHK-PEDES: 40206 images of 13003 persons from five re-identification sets."""

from cada_jax.data.datasets.published import FolderBuilder
from cada_jax.data.preparation.layout import Layout


class Cuhk(FolderBuilder):
    """TFDS builder of CUHK-PEDES."""

    LAYOUT = Layout(
        title="CUHK-PEDES",
        folder="CUHK-PEDES",
        annotations=("reid_raw.json",),
        image_key="file_path",
        splits={
            "train": (11003, 34054, 68126),
            "val": (1000, 3078, 6158),
            "test": (1000, 3074, 6156),
        },
        unusable={
            "caption_all.json": "its entries have no split, so nobody can tell training from test "
            "images. reid_raw.json has the same images and captions with the split; its authors "
            "give it out with the images"
        },
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder as its authors give it out: reid_raw.json and the images under imgs/."
    )
