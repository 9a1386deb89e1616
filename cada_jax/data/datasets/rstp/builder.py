"""RSTPReid: 20505 images of 4101 persons from 15 cameras, two captions each."""

from cada_jax.data.datasets.folder_builder import FolderBuilder
from cada_jax.data.preparation.source import Layout


class Rstp(FolderBuilder):
    """TFDS builder of RSTPReid."""

    LAYOUT = Layout(
        title="RSTPReid",
        folder="RSTPReid",
        annotations=("data_captions.json",),
        image_key="img_path",
        published={
            "train": (3701, 18505, 37010),
            "val": (200, 1000, 2000),
            "test": (200, 1000, 2000),
        },
    )
