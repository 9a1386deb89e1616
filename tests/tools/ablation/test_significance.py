"""Sign test and deviation, against figures computed by hand."""

import math

import numpy as np
import pytest

from tools.ablation.significance import sign_test, spread, two_sided


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (0, 5, 2 / 32),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (3, 3, 1.0),  # twice the tail is above 1
        (9, 1, 22 / 1024),
    ],
)
def test_the_sign_test_gives_binomial_tails_computed_by_hand(better, worse, p):
    assert two_sided(better, worse) == pytest.approx(p, rel=1e-12)


def test_the_sign_test_of_very_many_queries_is_never_zero():
    assert two_sided(10_000, 0) == math.ulp(0.0)
    assert two_sided(5_100, 4_900) == pytest.approx(0.0466, abs=5e-4)  # z = 1.99


def test_a_query_counts_once_by_the_seeds_that_find_it_and_ties_are_left_out():
    ours = np.array([[1, 1, 0, 0, 1], [1, 0, 0, 1, 1], [1, 0, 1, 1, 0]], bool)
    theirs = np.array([[0, 1, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 1, 1, 0]], bool)
    found = sign_test(ours, theirs)  # found by 3,1,1,2,2 and by 2,1,2,2,0 of the seeds
    assert (found.better, found.worse, found.ties) == (2, 1, 2)
    assert found.p == two_sided(2, 1)


def test_rows_of_another_number_of_seeds_are_compared_by_their_share():
    found = sign_test(np.ones((3, 4), bool), np.array([[1, 1, 1, 0]], bool))
    assert (found.better, found.worse, found.ties) == (1, 0, 3)


def test_the_deviation_is_that_of_a_sample_and_one_seed_has_none():
    assert spread([1.0, 3.0]) == ([1.0, 3.0], 2.0, pytest.approx(math.sqrt(2)))
    assert spread([5.0]) == ([5.0], 5.0, None)
