"""One's own folder of images, with a list of their captions."""

from cada_jax.data.datasets.folder_builder import FolderBuilder
from cada_jax.data.preparation.source import Layout


class Folder(FolderBuilder):
    """TFDS builder of one's own images; `preparation.captions_file` reads their list."""

    LAYOUT = Layout(
        title="your own set",
        folder="FOLDER --captions=LIST",
        annotations=("a list of captions",),
        image_key="image",
        published={},
    )
