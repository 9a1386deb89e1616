"""Hashed bits are as even and as unrelated as dropout needs them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.models.ops import random_bits

ROWS, PLACES = 64, 4096


def masks(
    seed: int = 0, rate: float = 0.1, half: int = 0, rows: int = ROWS, number: int | None = None
) -> np.ndarray:
    seeds = random_bits.row_seeds(jax.random.key(seed), jnp.arange(rows))
    if number is not None:
        seeds = random_bits.fold(seeds, number)
    places = jnp.arange(PLACES)[None]
    bits = random_bits.hashed(places, seeds[:, :1], seeds[:, 1:])
    return np.asarray(random_bits.kept(bits, rate, half))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("rate", [0.0, 0.001, 0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_the_rate(rate, half):
    dropped = 1 - masks(rate=rate, half=half).mean()
    deviation = np.sqrt(rate * (1 - rate) / (ROWS * PLACES))
    assert abs(dropped - rate) <= 4.5 * deviation + 2**-17


def test_every_row_and_every_place_drops_its_share():
    mask = masks(rate=0.5)
    assert abs(mask.mean(axis=1) - 0.5).max() < 5 * 0.5 / np.sqrt(PLACES)
    assert abs(mask.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(ROWS)


@pytest.mark.parametrize("shift", [1, 2, 73, 128, 197])
def test_neighbours_are_unrelated(shift):
    mask = masks(rate=0.5)
    assert abs(correlation(mask[:, :-shift], mask[:, shift:])) < 0.01


@pytest.mark.parametrize("shift", [1, 2, 16])
def test_rows_are_unrelated_and_no_shift_of_each_other(shift):
    mask = masks(rate=0.5)
    assert abs(correlation(mask[:-shift], mask[shift:])) < 0.01
    assert abs(correlation(mask[:-1, :-shift], mask[1:, shift:])) < 0.01


def test_the_halves_of_a_word_two_keys_and_two_layers_are_unrelated():
    for other in (dict(half=1), dict(seed=1), dict(number=0), dict(number=1)):
        assert abs(correlation(masks(rate=0.5), masks(rate=0.5, **other))) < 0.01
    first, second = masks(rate=0.5, number=8), masks(rate=0.5, number=9)
    assert abs(correlation(first, second)) < 0.01
    assert abs(correlation(first[:-1], second[1:])) < 0.01


def test_the_correlation_test_notices_a_copy():
    """Negative control."""
    mask = masks(rate=0.5)
    assert correlation(mask[:, :-1], mask[:, :-1]) > 0.99


def test_a_row_draws_the_same_whatever_rows_are_beside_it():
    np.testing.assert_array_equal(masks(rows=8), masks(rows=ROWS)[:8])


def test_what_is_kept_is_scaled_so_that_the_mean_stays():
    for rate in (0.0, 0.1, 0.3):
        kept = 1 - random_bits.threshold(rate) / 2**16
        assert random_bits.keep_scale(rate) * kept == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(rate):
    with pytest.raises(ValueError, match="0 <= rate < 1"):
        random_bits.threshold(rate)
