"""What is asked of a gallery: words, excluded words, a picture to resemble, and filters."""

import dataclasses

from cada_jax.common.errors import UsageError
from cada_jax.retrieval.images import ImageLike

MOST_RESULTS = 10_000  # of one query


@dataclasses.dataclass(frozen=True)
class Where:
    """Which pictures of a gallery are looked at; an empty field admits all.

    Attributes:
      folder: below this folder, at any depth.
      since, until: taken in this interval, seconds since 1970 in UTC; `until` itself is left out.
      camera: name of the camera.
    """

    folder: str = ""
    since: float | None = None
    until: float | None = None
    camera: str = ""

    @property
    def admits_all(self) -> bool:
        """Whether nothing is filtered."""
        return self == Where()


@dataclasses.dataclass(frozen=True)
class Query:
    """One search.

    Attributes:
      texts: phrasings of one description. Their embeddings are averaged and their match scores are
        summed.
      exclude: descriptions whose match scores count against a picture.
      like: a picture that the results resemble, alone or with words.
      like_id: the same, a picture of the gallery by its id.
      where: filters.
      k: number of results.
      rerank: the decoder scores so many of the nearest pictures; 0 for similarity alone.
      min_score: results that score less are left out; None keeps all.
    """

    texts: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    like: ImageLike | None = None
    like_id: str = ""
    where: Where = Where()
    k: int = 10
    rerank: int = 32
    min_score: float | None = None

    def __post_init__(self):
        for name, least in (("k", 1), ("rerank", 0)):
            value = getattr(self, name)
            if not least <= value <= MOST_RESULTS:
                raise UsageError(f"{name} is {value}, expected {least} to {MOST_RESULTS}")
        if not self.texts and self.like is None and not self.like_id:
            raise UsageError("nothing to search for: expected a description or a picture")
        if self.like is not None and self.like_id:
            raise UsageError("two pictures to resemble: expected like or like_id, not both")
