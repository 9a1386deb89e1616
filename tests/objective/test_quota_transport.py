"""Transport between words and patches: masses, plans, padding, extremes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.models.layers import l2_normalize
from cada_jax.objective import quota_transport as q

EPSILON = 0.5
# Compiled once for each shape; as they are, every call would trace its loop anew.
loss = jax.jit(q.quota_transport, static_argnums=3)
quotas, uniform = jax.jit(q.quotas), jax.jit(q.uniform)
transport_plan = jax.jit(q.transport_plan, static_argnums=(3, 4))
transport_cost = jax.jit(q.transport_cost, static_argnums=3)


@functools.partial(jax.jit, static_argnums=3)
@functools.partial(jax.value_and_grad, argnums=(0, 1))
def total(words, patches, real, epsilon=EPSILON):
    """Sum of the losses, with its gradient in words and patches."""
    return jnp.sum(q.quota_transport(words, patches, real, epsilon))


def sets(words=5, patches=7, padding=0, seed=0):
    """(words, patches, is_word) of two pairs; the words beyond 5 are padding with noise in it."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((2, 1, 8))
    shape = (2, words + padding, 8), (2, patches, 8)
    words_, patches_ = (jnp.asarray(shared + rng.standard_normal(s), jnp.float32) for s in shape)
    return words_, patches_, jnp.asarray(np.arange(words + padding) < words)[None].repeat(2, 0)


@given(seed=st.integers(0, 999), shape=st.sampled_from([(1, 0), (1, 2), (5, 3)]))
def test_the_masses_of_both_sides_sum_to_one_and_none_is_on_padding(seed, shape):
    a, b, real = sets(shape[0], 7, shape[1], seed)
    a, b = l2_normalize(a), l2_normalize(b)
    patches = jnp.ones(b.shape[:2], bool)
    for mass, counts in (
        (quotas(b, a, patches, real), real),
        (quotas(a, b, real, patches), patches),
        (uniform(real), real),
    ):
        mass = np.exp(mass)
        np.testing.assert_allclose(mass.sum(axis=1), 1, rtol=1e-5)
        assert np.all(mass[~np.asarray(counts)] == 0) and np.all(mass[np.asarray(counts)] > 0)


def test_quotas_are_those_of_a_plain_loop():
    words, patches, real = sets(4, 6, 2)
    t, v = (np.asarray(l2_normalize(x), np.float64)[0] for x in (words, patches))
    t = t[:4]
    cosine = t @ v.T
    share = np.exp(np.where(cosine > 0, cosine, q.LEAKY_SLOPE * cosine))
    share /= share.sum(axis=1, keepdims=True)
    chosen = share @ v
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True)
    nu = np.exp((t * chosen).sum(axis=1))
    nu /= nu.sum()
    ones = jnp.ones((2, 6), bool)
    got = np.exp(quotas(l2_normalize(words), l2_normalize(patches), real, ones))[0]
    np.testing.assert_allclose(got, nu @ share, rtol=1e-5)


@given(seed=st.integers(0, 999))
def test_a_plan_has_the_marginals_that_were_asked_for(seed):
    a, b, real = sets(5, 7, 2, seed)
    a, b = l2_normalize(a), l2_normalize(b)
    ones = jnp.ones(b.shape[:2], bool)
    rows, columns = quotas(b, a, ones, real), quotas(a, b, real, ones)
    plan = np.asarray(transport_plan(q._costs(a, b), rows, columns, EPSILON))
    assert np.all(plan >= 0) and np.all(plan[:, 5:] == 0)
    np.testing.assert_allclose(plan.sum(axis=(1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(plan.sum(axis=1), np.exp(columns), rtol=1e-5)
    np.testing.assert_allclose(plan.sum(axis=2), np.exp(rows), atol=1e-4)


def test_little_entropy_gives_the_cheapest_assignment():
    """Three words lie beside three patches in another order: a permutation moves all mass."""
    patches = jnp.eye(3)[None]
    words = l2_normalize(patches[:, jnp.array([2, 0, 1])] + 0.1)
    even = uniform(jnp.ones((1, 3), bool))
    cost = q._costs(words, patches)
    plan = np.asarray(transport_plan(cost, even, even, 0.02, 200))[0]
    np.testing.assert_allclose(plan, np.eye(3)[[2, 0, 1]] / 3, atol=1e-3)
    # Much entropy spreads the mass evenly instead.
    np.testing.assert_allclose(transport_plan(cost, even, even, 100.0)[0], 1 / 9, atol=1e-2)


def test_identical_sets_cost_zero():
    """To move a set onto itself costs what its own cost takes away, whatever its mass."""
    words, _, real = sets(6)
    unit = l2_normalize(words)
    cost = q._costs(unit, unit)
    for mass in (uniform(real), quotas(unit, unit, real, real)):
        between, within = (transport_cost(cost, mass, mass, EPSILON) for _ in range(2))
        np.testing.assert_array_equal(between - (within + within) / 2, 0)
    # Tokens that no other is nearer to than its fellows have equal quotas: zero in all.
    alike = jnp.eye(5)[None]
    np.testing.assert_allclose(loss(alike, alike, jnp.ones((1, 5), bool)), 0, atol=1e-6)
    # Sets that differ cost more.
    apart = jnp.roll(jnp.eye(10)[None, :5], 5, axis=2)
    far = loss(jnp.eye(10)[None, :5], apart, jnp.ones((1, 5), bool))
    assert far > 0.1


def test_the_order_of_words_and_patches_does_not_matter():
    words, patches, real = sets()
    value = loss(words, patches, real)
    shuffled = loss(words[:, ::-1], patches[:, ::-1], real)
    np.testing.assert_allclose(value, shuffled, rtol=1e-5)
    longer = loss(3 * words, patches / 7, real)
    np.testing.assert_allclose(value, longer, rtol=1e-4)


@pytest.mark.parametrize("padding", [1, 4])
def test_padding_cannot_change_the_loss_or_any_gradient(padding):
    words, patches, real = sets(5, 7, padding)
    value, (of_words, of_patches) = total(words[:, :5], patches, real[:, :5])
    for filler in (0.0, 1.0, 1e4):
        filled = words.at[:, 5:].multiply(filler)
        padded, (of_padded, of_same) = total(filled, patches, real)
        np.testing.assert_allclose(padded, value, rtol=1e-5)
        np.testing.assert_allclose(of_padded[:, :5], of_words, atol=1e-6)
        np.testing.assert_allclose(of_same, of_patches, atol=1e-6)
        assert not np.any(of_padded[:, 5:])
    # Were the padding read, the loss would be another one.
    assert abs(total(words, patches, jnp.ones_like(real))[0] - value) > 1e-3


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 100.0])
@pytest.mark.parametrize("case", ["zero", "huge", "opposed", "one word", "all alike"])
def test_losses_and_gradients_are_finite_at_extremes(case, epsilon):
    words, patches, real = sets()
    if case == "zero":
        words, patches = words.at[0].set(0.0), patches.at[:, 0].set(0.0)
    elif case == "huge":
        words, patches = 1e15 * words, 1e15 * patches
    elif case == "opposed":
        words, patches = jnp.ones_like(words), -jnp.ones_like(patches)
    elif case == "one word":
        real = real.at[:, 1:].set(False)
    else:
        words, patches = jnp.ones_like(words), jnp.ones_like(patches)

    value, gradient = total(words, patches, real, epsilon)
    assert np.isfinite(value) and all(np.all(np.isfinite(g)) for g in gradient)
