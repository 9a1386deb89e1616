"""A result is a good match above the line that its model's card states, for words alone."""

import numpy as np

from cada_jax.retrieval.good_match import CARD_KEY, GoodMatch, notice
from cada_jax.retrieval.query import Query
from cada_jax.retrieval.query_scores import Hit
from cada_jax.retrieval.searchable import Picture

LINE = GoodMatch.of_card(
    {CARD_KEY: {"line": 0.5, "words": 4, "precision": 0.9, "data": "a set"}, "domain": "drawings"}
)
ASKED = Query("a man in red")


def hits(*scores, logit=0.3):
    return [Hit(Picture("0" * 32, "a.jpg"), 0.2, logit, score) for score in scores]


def test_a_re_ranked_result_is_a_good_match_from_the_line_on():
    marked = LINE.mark(ASKED, hits(0.5, 0.4))
    assert [hit.to_dict()["good_match"] for hit in marked] == [True, False]
    assert GoodMatch.of_card({}) is None


def test_where_the_line_was_not_measured_nothing_is_judged():
    shorter = Query(("a man in red", "red coat"))
    like = Query("a man in red", like=np.zeros((4, 4, 3), np.uint8))
    assert all(LINE.mark(query, hits(0.4)) == hits(0.4) for query in (shorter, like))
    assert LINE.mark(ASKED, hits(0.4, logit=None)) == hits(0.4, logit=None)


def test_the_notice_is_for_results_of_which_none_is_good():
    assert "no good match" in notice(LINE.mark(ASKED, hits(0.4, 0.1)))
    assert notice(LINE.mark(ASKED, hits(0.9, 0.4))) == notice(hits(0.4)) == notice([]) == ""
