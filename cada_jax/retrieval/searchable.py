"""What can be searched: images encoded in memory, or a gallery on disk or on a server.

E embedding width, S image tokens, Dv their width.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from cada_jax.common.shapes import Float, Float32
from cada_jax.retrieval.query import Where


@dataclasses.dataclass(frozen=True)
class Picture:
    """One searchable picture: a whole image, or one person's box in a scene.

    Attributes:
      id: names it; in a gallery 32 hexadecimal digits, the start of a SHA-256 of path and box.
      path: of the image file, absolute in a gallery; "" for an image without a file.
      content: SHA-256 of the file's bytes, "" if unknown.
      size: of the file in bytes.
      modified_ns: of the file, nanoseconds since 1970.
      taken: seconds since 1970 in UTC: EXIF's time of exposure, or the time of modification.
      camera: EXIF's make and model, or what the path says of it, "" for unknown.
      width, height: of the upright scene in pixels.
      box: the person's (x, y, width, height) in it in pixels, None for the whole image.
      box_score: the detector's confidence in [0,1], None without one.
      pid: the person, -1 for unknown.
    """

    id: str
    path: str = ""
    content: str = ""
    size: int = 0
    modified_ns: int = 0
    taken: float = 0.0
    camera: str = ""
    width: int = 0
    height: int = 0
    box: tuple[float, float, float, float] | None = None
    box_score: float | None = None
    pid: int = -1


class Near(NamedTuple):
    """A picture found by similarity. similarity: cosine of the embeddings in [-1,1]."""

    picture: Picture
    similarity: float


@runtime_checkable
class Searchable(Protocol):
    """What `Retriever.search` needs of the pictures it searches."""

    @property
    def model(self) -> str:
        """Digest of the parameters that encoded the pictures, "" for unknown."""
        ...

    def __len__(self) -> int: ...

    def nearest(
        self, embeddings: Float32[np.ndarray, "Q E"], k: int, where: Where
    ) -> list[list[Near]]:
        """The k most similar pictures that `where` admits, for every query, nearest first."""
        ...

    def embeddings_of(self, ids: Sequence[str]) -> Float32[np.ndarray, "n E"]:
        """Embeddings of length 1; a UsageError names an id that is not there."""
        ...

    def tokens_of(self, pictures: Sequence[Picture]) -> Float[np.ndarray, "n S Dv"]:
        """Image tokens for the decoder, of pictures of this gallery.

        They come with the records that `nearest` has read: a database is not asked for them again.
        """
        ...
