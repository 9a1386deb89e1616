"""The line above which a result is a good match, measured on held-out persons and kept in a card.

A search has a first result whatever is asked. Whether it is what was asked for shows in its score,
and where the line lies has to be measured for each model: `python -m tools.no_match`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cada_jax.retrieval.query import Query
from cada_jax.retrieval.query_scores import Hit
from cada_jax.text.tokenizer import clean_caption, split_words

CARD_KEY = "good_match"


class GoodMatch(NamedTuple):
    """A line in the score of re-ranked results.

    Attributes:
      line: a result that scores as much or more is a good match.
      words: of the shortest descriptions that it was measured with. The scores of shorter ones say
        less, and are lower where they are right.
      precision: share of right results among those above the line, in [0,1].
      data: what it was measured on.
    """

    line: float
    words: int
    precision: float
    data: str

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> "GoodMatch | None":
        """The line that a model's card states, None where it states none."""
        kept = card.get(CARD_KEY)
        return cls(**{name: kept[name] for name in cls._fields}) if kept else None

    def mark(self, query: Query, hits: Sequence[Hit]) -> list[Hit]:
        """The results of a query with `Hit.good_match`.

        It stays None where the line was not measured: for short descriptions, beside a picture to
        resemble, and for results that the decoder did not score.
        """
        words = [len(split_words(clean_caption(text))) for text in query.texts]
        if min(words, default=0) < self.words or query.like is not None or query.like_id:
            return list(hits)
        return [
            hit if hit.match_logit is None else hit._replace(good_match=hit.score >= self.line)
            for hit in hits
        ]


def notice(hits: Sequence[Hit]) -> str:
    """One line where some of these marked results were judged and none is good, else ""."""
    judged = [hit.good_match for hit in hits if hit.good_match is not None]
    if not judged or any(judged):
        return ""
    return "no good match: every result is below the line that was measured for this model"
