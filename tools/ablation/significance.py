"""Means, standard deviations and the sign test of the ablation table."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest


class Spread(NamedTuple):
    """Values, one for each seed; the standard deviation is of a sample, None of one value."""

    values: list[float]
    mean: float
    std: float | None


class SignTest(NamedTuple):
    """Queries that one row answers better, worse and alike; p is two-sided, in (0, 1]."""

    better: int
    worse: int
    ties: int
    p: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (divided by n - 1) of at least one value."""
    listed = [float(value) for value in values]
    std = statistics.stdev(listed) if len(listed) > 1 else None
    return Spread(listed, statistics.fmean(listed), std)


def sign_test(ours: np.ndarray, theirs: np.ndarray) -> SignTest:
    """Whether one row finds more queries than another, query by query.

    A query counts once, however many seeds there are: it is better answered by the row that finds
    it under more of the seeds, and a tie if that is the same number. Ties are left out, as Dixon
    and Mood (JASA 41, 1946) do; under the null hypothesis the rest is a fair coin.

    Args:
      ours: bool [seeds, queries], whether a right image came first.
      theirs: bool [seeds, queries] of the other row; its seeds may be fewer or more only if both
        are compared by their share, which is what is done.
    """
    # Whole numbers, so that shares of 1/3 are equal when they are.
    difference = ours.sum(0) * len(theirs) - theirs.sum(0) * len(ours)
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    ties = ours.shape[1] - better - worse
    return SignTest(better, worse, ties, two_sided(better, worse))


def two_sided(better: int, worse: int) -> float:
    """Probability that a fair coin, thrown better + worse times, falls at least as unevenly.

    1 without any throw. Below the smallest float it is that float, since it is never 0.
    """
    if not better + worse:
        return 1.0
    return max(float(binomtest(better, better + worse).pvalue), math.ulp(0.0))
