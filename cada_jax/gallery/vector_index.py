"""Indexes of vectors that a gallery can have, with their settings, in Milvus's names.

The settings of building are those of Milvus's documentation for high recall. The settings of a
search grow with the number of results, which an approximate index must visit at least.
"""

from typing import Any

from cada_jax.common.errors import UsageError
from cada_jax.gallery.place import Place

EXACT = "FLAT"
LEAST_VISITED = 128
# Name -> settings of building.
INDEXES: dict[str, dict[str, Any]] = {
    EXACT: {},  # every vector is compared: exact
    "HNSW": {"M": 32, "efConstruction": 360},  # a graph in memory beside the vectors
    "IVF_SQ8": {"nlist": 4096},  # a byte a number, in memory
    "DISKANN": {},  # a graph on SSD
}
SERVER_ONLY = "DISKANN"


def check_index(place: Place, index: str, shards: int) -> None:
    """Raises UsageError unless a gallery at `place` can have an index and so many shards."""
    if index not in INDEXES:
        raise UsageError(f"vector_index is {index!r}: expected one of {', '.join(INDEXES)}")
    if place.folder and (index == SERVER_ONLY or shards != 1):
        asked = f"--vector_index={index}" if index == SERVER_ONLY else f"--shards={shards}"
        raise UsageError(
            f"{asked} needs a Milvus server, and {place.name} is a folder: expected "
            "--db=http://HOST:PORT"
        )


def search_settings(index: str, k: int) -> dict[str, Any]:
    """What a search of an index is told.

    Args:
      index: one of `INDEXES`.
      k: number of results.
    """
    visited = max(LEAST_VISITED, 2 * k)
    settings = {"HNSW": {"ef": visited}, "IVF_SQ8": {"nprobe": 128}}
    return settings.get(index, {"search_list": visited} if index == "DISKANN" else {})
