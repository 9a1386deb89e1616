"""The line of a good match: as low as the precision that is asked for allows."""

import numpy as np
import pytest

from tools.no_match import Results, draw_line, joined, judge


def results(values, right):
    right = np.asarray(right)
    return Results(np.asarray(values, np.float32), right, right.any(axis=1))


FOUND = results([[0.9, 0.7, 0.3], [0.8, 0.6, 0.2]], [[True, True, False], [True, False, False]])


def test_the_line_is_the_lowest_with_that_precision():
    assert draw_line(FOUND, 0.9) == pytest.approx(0.7)
    assert draw_line(FOUND, 0.75) == pytest.approx(0.6)
    assert draw_line(results([[0.9, 0.1]], [[False, True]]), 0.9) == float("inf")


def test_a_line_is_judged_by_what_lies_above_it_and_by_queries_without_an_answer():
    nothing = results([[0.75, 0.1, 0.0], [0.4, 0.3, 0.1]], [[False] * 3] * 2)
    places = results([[0.2], [0.95]], [[False]] * 2)
    assert judge(joined([FOUND, nothing]), places, 0.7) == pytest.approx(
        {"precision": 75.0, "recall": 100.0, "miss": 0.0, "false alarm": 50.0, "places": 50.0}
    )
