"""The triplet alignment loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.objective.tal import _hinges, tal
from tests.objective.test_losses import features

PIDS = np.array([0, 1, 0, 2, 3, 3, 3, 4])
# Compiled: operation by operation, every test would take many times as long.
loss = jax.jit(tal, static_argnums=(3, 4))
find = jax.jit(jax.value_and_grad(tal, argnums=(0, 1)), static_argnums=(3, 4))


def mixed_up():
    """Images, and texts that describe others: every hinge is open."""
    return features()[0], features(seed=1)[1]


def plain(image, text, pids, margin, temperature):
    """The formula, entry by entry, in float64."""
    image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
    total = 0.0
    for similarity in (image @ text.T, text @ image.T):
        for row, pid in zip(similarity.astype(np.float64), pids, strict=True):
            own, other = row[pids == pid], row[pids != pid]
            weight = np.exp(own / temperature)
            soft = np.log(np.exp(other / temperature).sum()) * temperature if len(other) else -9
            total += max(0.0, margin - (weight * own).sum() / weight.sum() + soft)
    return total / len(pids)


@pytest.mark.parametrize(("margin", "temperature"), [(0.1, 0.015), (0.0, 0.2), (1.0, 0.05)])
def test_the_loss_is_the_formula(margin, temperature):
    image, text = mixed_up()
    value = loss(image, text, PIDS, margin, temperature)
    assert value > 0
    np.testing.assert_allclose(value, plain(image, text, PIDS, margin, temperature), rtol=1e-5)


def test_it_does_not_depend_on_the_order_of_the_batch_or_on_which_side_comes_first():
    image, text = mixed_up()
    order = np.random.default_rng(1).permutation(8)
    value = loss(image, text, PIDS)
    assert value > 0
    np.testing.assert_allclose(value, loss(image[order], text[order], PIDS[order]), rtol=1e-5)
    np.testing.assert_allclose(value, loss(text, 7 * image, PIDS), rtol=1e-5)


def test_pairs_that_are_apart_by_more_than_the_margin_cost_nothing():
    eye = np.eye(4, dtype=np.float32)
    value, gradient = find(eye, eye, np.arange(4))
    assert value == 0.0 and not any(map(np.any, gradient))
    # Two persons whose descriptions are mixed up cost the margin and the distance, both ways.
    assert loss(eye, eye[[1, 0, 2, 3]], np.arange(4)) > 1.0


def test_a_batch_of_one_person_costs_nothing_and_has_no_gradient():
    image, text = features()
    value, gradient = find(image, text, np.zeros(8, int))
    assert value == 0.0 and not any(map(np.any, gradient))


def test_a_person_s_less_similar_rows_are_never_pushed_away():
    """The weights of the positives are constants: no cosine with one's own person is lowered."""
    rng = np.random.default_rng(3)
    similarity = jnp.asarray(rng.uniform(-1, 1, (8, 8)).astype(np.float32))

    same = PIDS[:, None] == PIDS[None]
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(_hinges(x, same, 2.0, 0.1))))(similarity)
    gradient = np.asarray(gradient)
    assert np.all(gradient[same] <= 0) and np.all(gradient[~same] >= 0) and np.any(gradient)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1.0, 1e15])
@pytest.mark.parametrize("temperature", [1e-3, 0.015, 1e3])
def test_gradients_are_finite_at_extremes(scale, temperature):
    image, text = features()
    image[:4] *= scale
    image[4:], text[5] = text[4:], text[4]  # identical, and opposed, rows
    text[6] = -text[7]
    value, gradient = find(image, text, PIDS, 0.1, temperature)
    assert np.isfinite(value) and all(np.all(np.isfinite(g)) for g in gradient)
