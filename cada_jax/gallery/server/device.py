"""What the loaded model computes for the server."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cada_jax.gallery.server.engine import Device, Found
from cada_jax.retrieval.association_maps import word_associations
from cada_jax.retrieval.attribute_reading import read_attributes
from cada_jax.retrieval.query import Query
from cada_jax.retrieval.searchable import Searchable
from cada_jax.retriever import Retriever


def device_of(retriever: Retriever) -> Device:
    """Search, associations and attribute readings by a model."""

    def search(queries: Sequence[Query], gallery: Searchable) -> Sequence[Sequence[Found]]:
        return retriever.search(list(queries), gallery)

    def associate(
        pixels: np.ndarray, text: str, layer: int | None, head: int | None
    ) -> dict[str, Any]:
        return word_associations(retriever, pixels, text, layer, head).plain()

    def read(pixels: np.ndarray) -> dict[str, Any]:
        (readings,) = read_attributes(retriever, [pixels])
        return {"readings": [reading.plain() for reading in readings]}

    return Device(search, associate, read)
