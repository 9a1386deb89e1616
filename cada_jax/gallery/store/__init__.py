"""What keeps a gallery: pictures, their vectors and image tokens, and what is known of the model.

`sqlite` keeps it in a file, `milvus` on a server.

E embedding width, S image tokens, Dv their width.
"""

import collections
import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax.sharding import Mesh

from cada_jax.common.errors import UsageError
from cada_jax.retrieval.filter import Filter
from cada_jax.retrieval.searchable import Neighbor, Picture
from cada_jax.retriever import Retriever

STORE, RECOMPUTE = "store", "recompute"
MOST_FOLDERS, MOST_CAMERAS = 300, 100  # named in a summary, the most frequent ones


@dataclasses.dataclass(frozen=True)
class Meta:
    """What a gallery knows of the model that encoded it, and how it keeps what that made.

    Attributes:
      model: SHA-256 of the parameters, `Retriever.digest`.
      model_path: where it lay last; a folder or a name.
      width: E.
      image_size: height and width in pixels that the model reads.
      tokens: "store", or "recompute": pictures are read and encoded again when they are re-ranked.
      index: of the vectors on a Milvus server, "" in a file, which compares all of them.
    """

    model: str
    model_path: str
    width: int
    image_size: tuple[int, int]
    tokens: str
    index: str = ""

    @classmethod
    def of(cls, retriever: Retriever, model_path: str, tokens: str, index: str = "") -> "Meta":
        """That of a new gallery; arguments are the attributes that the model does not tell."""
        width, size = int(retriever.config.model.embed_dim), retriever.config.data.image_size
        return cls(retriever.digest, model_path, width, (size[0], size[1]), tokens, index)

    def check(self, retriever: Retriever, name: str) -> None:
        """Raises UsageError unless a model is the one that encoded the gallery `name`."""
        size = tuple(retriever.config.data.image_size)
        if self.model != retriever.digest or self.image_size != size:
            raise UsageError(
                f"{name} was indexed by the model {self.model[:12]} ({self.model_path}, images of "
                f"{self.image_size}), and the one given is {retriever.digest[:12]} (images of "
                f"{size}): their vectors cannot be compared. Give that model, or index again with "
                "--reindex"
            )


def summarize(pictures: Iterable[Picture]) -> dict[str, Any]:
    """What `Store.summary` gives, of pictures: see `Gallery.summary`."""
    pictures = list(pictures)
    times = [picture.taken for picture in pictures]
    names = {}
    for column, most in (("folder", MOST_FOLDERS), ("camera", MOST_CAMERAS)):
        counts = collections.Counter(getattr(picture, column) for picture in pictures)
        names[f"{column}s"] = sorted(name for name, _ in counts.most_common(most) if name)
    return {
        "pictures": len(pictures),
        "files": len({picture.path for picture in pictures}),
        "first_taken": min(times, default=None),
        "last_taken": max(times, default=None),
        **names,
    }


class Encoded(NamedTuple):
    """What the network made of a picture.

    vector: float32 [E] of length 1; tokens: image tokens [S,Dv] to be kept in bfloat16; or where a
    store keeps them already, see `Picture.tokens`; or None.
    """

    vector: np.ndarray
    tokens: np.ndarray | tuple[int, int] | None = None


class Store(Protocol):
    """One gallery. Each method is one transaction: a kill leaves all of it or nothing.

    One process at a time writes, others read meanwhile and see each change when it is complete.
    Every method may be called from several threads.
    """

    name: str  # in messages

    def meta(self) -> Meta:
        """What the gallery knows of its model."""
        ...

    def changes(self) -> int:
        """Another number after every change, whichever process made it; cheap."""
        ...

    def __len__(self) -> int: ...

    def put(self, rows: Sequence[tuple[Picture, Encoded]], remove: Collection[str] = ()) -> None:
        """Writes pictures, those of the same id are replaced, and removes others by their ids.

        What is written is no longer forgotten.
        """
        ...

    def forget(self, ids: Collection[str], contents: Collection[str]) -> None:
        """Removes pictures, and notes contents that no indexing is to bring back.

        `compact` has to follow. If that is cut off, the next process that writes does it.
        """
        ...

    def forgotten(self) -> set[str]:
        """The contents that `forget` noted."""
        ...

    def rows(self, ids: Iterable[str] | None = None) -> dict[str, Picture]:
        """Pictures by id, all of them or those of `ids` that there are."""
        ...

    def encoded(self, ids: Iterable[str]) -> dict[str, Encoded]:
        """What the network made of the pictures of `ids` that there are."""
        ...

    def nearest(
        self, embeddings: np.ndarray, k: int, filter: Filter, mesh: Mesh
    ) -> list[list[Neighbor]]:
        """The k most similar pictures that a filter admits, for every query, nearest first.

        Args:
          embeddings: float32 [Q,E] of length 1.
          k: at most `retrieval.query.MOST_RESULTS`.
          filter: which pictures are looked at.
          mesh: where vectors are compared, unless a server does that.

        Raises:
          UsageError: no picture lies in the folder of the filter.
        """
        ...

    def tokens(self, pictures: Sequence[Picture]) -> list[np.ndarray | None]:
        """Image tokens bfloat16 [S,Dv]; None where they are not kept, or are damaged."""
        ...

    def summary(self) -> dict[str, Any]:
        """What the gallery holds, see `Gallery.summary`."""
        ...

    def note(self, meta: Meta, anew: bool = False) -> None:
        """Replaces what `meta` gives; `anew` empties the gallery, but what it forgot stays so."""
        ...

    def compact(self) -> None:
        """Leaves nothing of what was removed in storage."""
        ...

    def close(self) -> None:
        """Lets go of it."""
        ...
