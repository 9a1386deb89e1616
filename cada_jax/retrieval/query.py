"""What is asked of a gallery: words, excluded words, a picture to resemble, and filters."""

import dataclasses
import numbers
from collections.abc import Hashable, Sequence
from typing import Any

from cada_jax.common.errors import UsageError
from cada_jax.retrieval.filter import GROUPS, Filter, is_finite
from cada_jax.retrieval.images import ImageLike
from cada_jax.retrieval.searchable import Picture
from cada_jax.text.attribute_phrases import caption_problem

MOST_RESULTS = 10_000  # of one query
MOST_PHRASINGS = 16  # of one query, and as many excluded descriptions
GROUPED = 8  # so many pictures are looked up for each result where pictures are grouped


@dataclasses.dataclass(frozen=True)
class Query:
    """One search.

    Attributes:
      texts: phrasings of one description; a single text may be given as it is. Their embeddings are
        averaged and their match scores are summed.
      exclude: descriptions whose match scores count against a picture.
      like: a picture that the results resemble, alone or with words.
      like_id: the same, a picture of the gallery by its id; it is left out of the results.
      filter: which pictures are looked at.
      k: number of results.
      offset: so many of the best are left out before them: page n begins at n times k.
      rerank: the decoder scores so many of the nearest pictures; 0 for similarity alone.
      group: of `GROUPS`, or "" for single pictures; of each group the best picture is a result.
      min_score: results that score less are left out, and so are those that the decoder did not
        score, unless nothing is re-ranked; None keeps all.

    Raises:
      UsageError: a field holds what cannot be searched for; the message names the field.
    """

    texts: Sequence[str] = ()  # kept as a tuple, and so is the next
    exclude: Sequence[str] = ()
    like: ImageLike | None = None
    like_id: str = ""
    filter: Filter = Filter()
    k: int = 10
    offset: int = 0
    rerank: int = 32
    group: str = ""
    min_score: float | None = None

    def __post_init__(self):
        for name in ("texts", "exclude"):
            object.__setattr__(self, name, _descriptions(name, getattr(self, name)))
        for name, least in (("k", 1), ("offset", 0), ("rerank", 0)):
            value = getattr(self, name)
            whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
            if not whole or not least <= int(value) <= MOST_RESULTS:
                raise UsageError(f"{name} is {value}, expected {least} to {MOST_RESULTS}")
        if self.k + self.offset > MOST_RESULTS:
            raise UsageError(
                f"k + offset is {self.k + self.offset}, expected at most {MOST_RESULTS}"
            )
        if self.min_score is not None and not is_finite(self.min_score):
            raise UsageError(f"min_score is {self.min_score!r}, expected a number or None")
        if self.group not in ("", *GROUPS):
            raise UsageError(f"group is {self.group!r}, expected one of {', '.join(GROUPS)}")
        if not isinstance(self.like_id, str):
            raise UsageError(f"like_id is {self.like_id!r}, expected the id of a picture")
        if not self.texts and self.like is None and not self.like_id:
            raise UsageError("nothing to search for: expected a description or a picture")
        if self.like is not None and self.like_id:
            raise UsageError("two pictures to resemble: expected like or like_id, not both")
        if self.exclude and not self.rerank:
            raise UsageError("exclude needs the decoder: expected rerank to be 1 or more, got 0")

    @property
    def looked_up(self) -> int:
        """Pictures that stage one has to find."""
        shown = (self.offset + self.k) * (GROUPED if self.group else 1)
        return max(shown, self.rerank if self.decodes else 0)

    def group_of(self, picture: Picture) -> Hashable:
        """What the pictures of one group share."""
        place = picture.camera or picture.folder
        keys = {"file": picture.path, "content": picture.content or picture.id}
        keys |= {"scene": (place, picture.taken // 1), "minute": (place, picture.taken // 60)}
        return keys.get(self.group, picture.id)

    @property
    def decodes(self) -> bool:
        """Whether the decoder has anything to score: words, and pictures to score them with."""
        return bool(self.rerank and (self.texts or self.exclude))

    def to_dict(self) -> dict[str, Any]:
        """What was asked, for JSON: the fields by their names, those of the filter among them.

        Of a picture that was given, `like` tells only that it was.
        """
        return {
            "texts": list(self.texts),
            "exclude": list(self.exclude),
            "like": self.like is not None,
            "like_id": self.like_id,
            **self.filter.to_dict(),
            "k": self.k,
            "offset": self.offset,
            "rerank": self.rerank,
            "group": self.group,
            "min_score": self.min_score,
        }


def _descriptions(name: str, texts: str | Sequence[str]) -> tuple[str, ...]:
    """The descriptions of a field as a tuple; raises UsageError for what is no description."""
    texts = (texts,) if isinstance(texts, str) else tuple(texts)
    if len(texts) > MOST_PHRASINGS:
        raise UsageError(f"{name} has {len(texts)} descriptions, expected at most {MOST_PHRASINGS}")
    if problem := next(filter(None, map(caption_problem, texts)), None):
        raise UsageError(f"a text cannot be searched for: {problem}")
    return texts
