"""A gallery of generated people in memory, and the model that encoded it: stands for the index."""

import contextlib
import pathlib

import jax

import cada_jax
from cada_jax.data.datasets.synthetic import people
from cada_jax.gallery.opening import Opened
from cada_jax.retrieval.in_memory import InMemoryGallery
from cada_jax.retrieval.searchable import Picture

COUNT = 12
DAY = 86_400.0
# Names as people and attackers give them.
NAMES = ("a b.jpg", "line\nbreak.jpg", "\x1b[31mred.jpg", "100% #1?+;'\".jpg", "\u202egpj.exe.jpg")


def load_small_model():
    """The shipped model on one device."""
    return cada_jax.load_model("pretrained:synthetic", jax.devices()[:1])


def make_gallery(retriever, folder: pathlib.Path):
    """(gallery, captions): generated people under `folder`, half of them in a sub-folder."""
    captions, paths, pictures = [], [], []
    (folder / "inner").mkdir()
    examples = list(people.generate(people.VARIANTS["tiny"], "test"))[:COUNT]
    for i, example in enumerate(examples):
        name = NAMES[i] if i < len(NAMES) else f"{i}.jpg"
        path = (folder / "inner" if i % 2 else folder) / name
        path.write_bytes(example.jpeg)
        box = (4.0, 0.0, 40.0, 96.0) if i % 3 == 0 else None
        where = dict(taken=(1 + i) * DAY, camera="north" if i < 6 else "south")
        pictures.append(Picture(f"{i:032x}", str(path), width=48, height=96, box=box, **where))
        captions.append(example.captions[0].text)
        paths.append(path)
    images = retriever.encode_images(paths)
    return InMemoryGallery(images, retriever.mesh, pictures), captions


def opening(retriever, gallery):
    """What `commands.search.main` takes for opening this gallery whatever the flags name."""

    @contextlib.contextmanager
    def open_it(db, model):
        yield Opened(retriever, gallery)

    return open_it
