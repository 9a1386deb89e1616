"""What can be searched: images encoded in memory, or a gallery on disk or on a server.

E embedding width, S image tokens, Dv their width.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from cada_jax.common.dates import local_iso
from cada_jax.common.shapes import Float, Float32
from cada_jax.retrieval.filter import Filter


@dataclasses.dataclass(frozen=True)
class Picture:
    """One searchable picture: a whole image, or one person's box in a scene.

    Attributes:
      id: names it; in a gallery 32 hexadecimal digits, the start of a SHA-256 of path and box.
      path: of the image file, absolute in a gallery; "" for an image without a file.
      content: SHA-256 of the file's bytes, "" if unknown.
      size: of the file in bytes.
      modified_ns: of the file, nanoseconds since 1970.
      changed_ns: of the file or of what the system notes of it; no program can choose it.
      taken: seconds since 1970 in UTC: EXIF's time of exposure, or the time of modification.
      camera: EXIF's make and model, or what the path says of it, "" for unknown.
      width, height: of the upright scene in pixels.
      box: the person's (x, y, width, height) in it in pixels, None for the whole image.
      box_score: the detector's confidence in [0,1], None without one.
      pid: the person, -1 for unknown.
      tokens: where a gallery keeps its image tokens; of meaning to that alone.
    """

    id: str
    path: str = ""
    content: str = ""
    size: int = 0
    modified_ns: int = 0
    changed_ns: int = 0
    taken: float = 0.0
    camera: str = ""
    width: int = 0
    height: int = 0
    box: tuple[float, float, float, float] | None = None
    box_score: float | None = None
    pid: int = -1
    tokens: tuple[int, int] | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def folder(self) -> str:
        """The folder of its file; filters compare it."""
        return os.path.dirname(self.path)

    def to_dict(self) -> dict[str, Any]:
        """What commands and the server tell of a picture, for JSON.

        `taken` is ISO 8601 in local time, "" for unknown; `box` is [x, y, width, height] or None.
        A byte of the path that is not UTF-8 is U+FFFD.
        """
        path = os.fsencode(self.path).decode("utf-8", "replace")
        return {
            "id": self.id,
            "path": path,
            "name": os.path.basename(path),
            "folder": os.path.dirname(path),
            "taken": local_iso(self.taken or None),
            "camera": self.camera,
            "box": None if self.box is None else [float(side) for side in self.box],
            "width": self.width,
            "height": self.height,
        }


class Neighbor(NamedTuple):
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
        self, embeddings: Float32[np.ndarray, "Q E"], k: int, filter: Filter
    ) -> list[list[Neighbor]]:
        """The k most similar pictures that a filter admits, for every query, nearest first.

        Raises:
          UsageError: no picture lies in the folder of the filter.
        """
        ...

    def embeddings_of(self, ids: Sequence[str]) -> Float32[np.ndarray, "n E"]:
        """Embeddings of length 1; a UsageError names an id that is not there."""
        ...

    def tokens_of(self, pictures: Sequence[Picture]) -> Float[np.ndarray, "n S Dv"]:
        """Image tokens for the decoder, of pictures of this gallery.

        They come with the records that `nearest` has read: a database is not asked for them again.
        """
        ...
