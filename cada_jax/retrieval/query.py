"""What is asked of a gallery: words, excluded words, a picture to resemble, and filters."""

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Any

from cada_jax.common.errors import UsageError
from cada_jax.retrieval.images import ImageLike
from cada_jax.text.attribute_phrases import caption_problem

MOST_RESULTS = 10_000  # of one query
MOST_PHRASINGS = 16  # of one query, and as many excluded descriptions


@dataclasses.dataclass(frozen=True)
class Where:
    """Which pictures of a gallery are looked at; an empty field admits all.

    Attributes:
      folder: below this folder, at any depth.
      since, until: taken in this interval, seconds since 1970 in UTC; `until` itself is left out.
      camera: name of the camera.

    Raises:
      UsageError: a time is no finite number, or `until` is not after `since`.
    """

    folder: str = ""
    since: float | None = None
    until: float | None = None
    camera: str = ""

    def __post_init__(self):
        for name in ("folder", "camera"):
            value = getattr(self, name)
            if not isinstance(value, str) or "\0" in value:
                raise UsageError(f"{name} is {value!r}, expected a text without a NUL character")
        for name in ("since", "until"):
            value = getattr(self, name)
            if value is not None and not _is_finite(value):
                raise UsageError(f"{name} is {value!r}, expected seconds since 1970 or None")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise UsageError(
                f"until is {self.until} and since is {self.since}: expected until to be later"
            )

    @property
    def admits_all(self) -> bool:
        """Whether nothing is filtered."""
        return self == Where()


@dataclasses.dataclass(frozen=True)
class Query:
    """One search.

    Attributes:
      texts: phrasings of one description; a single text may be given as it is. Their embeddings are
        averaged and their match scores are summed.
      exclude: descriptions whose match scores count against a picture.
      like: a picture that the results resemble, alone or with words.
      like_id: the same, a picture of the gallery by its id; it is left out of the results.
      where: filters.
      k: number of results.
      rerank: the decoder scores so many of the nearest pictures; 0 for similarity alone.
      min_score: results that score less are left out, and so are those that the decoder did not
        score, unless nothing is re-ranked; None keeps all.

    Raises:
      UsageError: a field holds what cannot be searched for; the message names the field.
    """

    texts: Sequence[str] = ()  # kept as a tuple, and so is the next
    exclude: Sequence[str] = ()
    like: ImageLike | None = None
    like_id: str = ""
    where: Where = Where()
    k: int = 10
    rerank: int = 32
    min_score: float | None = None

    def __post_init__(self):
        for name in ("texts", "exclude"):
            object.__setattr__(self, name, _descriptions(name, getattr(self, name)))
        for name, least in (("k", 1), ("rerank", 0)):
            value = getattr(self, name)
            whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
            if not whole or not least <= int(value) <= MOST_RESULTS:
                raise UsageError(f"{name} is {value}, expected {least} to {MOST_RESULTS}")
        if self.min_score is not None and not _is_finite(self.min_score):
            raise UsageError(f"min_score is {self.min_score!r}, expected a number or None")
        if not isinstance(self.like_id, str):
            raise UsageError(f"like_id is {self.like_id!r}, expected the id of a picture")
        if not self.texts and self.like is None and not self.like_id:
            raise UsageError("nothing to search for: expected a description or a picture")
        if self.like is not None and self.like_id:
            raise UsageError("two pictures to resemble: expected like or like_id, not both")
        if self.exclude and not self.rerank:
            raise UsageError("exclude needs the decoder: expected rerank to be 1 or more, got 0")

    @property
    def decodes(self) -> bool:
        """Whether the decoder has anything to score: words, and pictures to score them with."""
        return bool(self.rerank and (self.texts or self.exclude))


def _is_finite(value: Any) -> bool:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and math.isfinite(value)


def _descriptions(name: str, texts: str | Sequence[str]) -> tuple[str, ...]:
    """The descriptions of a field as a tuple; raises UsageError for what is no description."""
    texts = (texts,) if isinstance(texts, str) else tuple(texts)
    if len(texts) > MOST_PHRASINGS:
        raise UsageError(f"{name} has {len(texts)} descriptions, expected at most {MOST_PHRASINGS}")
    if problem := next(filter(None, map(caption_problem, texts)), None):
        raise UsageError(f"a text cannot be searched for: {problem}")
    return texts
