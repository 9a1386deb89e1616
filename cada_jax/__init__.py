"""CADA in JAX: find the images of a person from a description in words.

    import cada_jax

    retriever = cada_jax.load_model("pretrained:synthetic")
    gallery = retriever.encode_images(paths)
    hits = retriever.search("a woman in a yellow coat", gallery, k=5)

What is offered here is imported when it is first used, so that `import cada_jax` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cada_jax.checkpoints.model import list_pretrained
    from cada_jax.common.errors import DivergedError, MissingFileError, UsageError
    from cada_jax.config import default_config
    from cada_jax.evaluation.run import evaluate
    from cada_jax.gallery.gallery import Gallery
    from cada_jax.retrieval.encode import Queries
    from cada_jax.retrieval.encoded_images import EncodedImages
    from cada_jax.retrieval.filter import Filter
    from cada_jax.retrieval.query import Query
    from cada_jax.retriever import Hit, Retriever, load_model
    from cada_jax.training.run import train

    __version__: str

# Name -> the module that it lives in.
_OFFERED = {
    "DivergedError": "common.errors",
    "EncodedImages": "retrieval.encoded_images",
    "Filter": "retrieval.filter",
    "Gallery": "gallery.gallery",
    "Hit": "retriever",
    "MissingFileError": "common.errors",
    "Queries": "retrieval.encode",
    "Query": "retrieval.query",
    "Retriever": "retriever",
    "UsageError": "common.errors",
    "default_config": "config",
    "evaluate": "evaluation.run",
    "list_pretrained": "checkpoints.model",
    "load_model": "retriever",
    "train": "training.run",
}
__all__ = [
    "DivergedError",
    "EncodedImages",
    "Filter",
    "Gallery",
    "Hit",
    "MissingFileError",
    "Queries",
    "Query",
    "Retriever",
    "UsageError",
    "__version__",
    "default_config",
    "evaluate",
    "list_pretrained",
    "load_model",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value = version("cada_jax")
    elif name in _OFFERED:
        value = getattr(importlib.import_module(f"cada_jax.{_OFFERED[name]}"), name)
    else:
        raise AttributeError(f"module 'cada_jax' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
