"""Schedules by hand, decay where it belongs."""

import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.training import optimizer


def test_epoch_schedule_is_constant_within_an_epoch(tiny_config):
    tiny_config.train.epochs = 4
    tiny_config.optimizer.learning_rate = 1e-3
    tiny_config.optimizer.min_learning_rate = 1e-5
    schedule = optimizer.make_schedule(tiny_config, steps_per_epoch=5)
    rates = [float(schedule(step)) for step in range(20)]
    for epoch in range(4):
        expected = (1e-3 - 1e-5) * 0.5 * (1 + np.cos(np.pi * epoch / 4)) + 1e-5
        np.testing.assert_allclose(rates[5 * epoch : 5 * epoch + 5], expected, rtol=1e-5)


def test_step_schedule_warms_up_and_ends_at_the_minimum(tiny_config):
    tiny_config.optimizer.schedule = "step"
    tiny_config.optimizer.learning_rate = 1.0
    tiny_config.optimizer.warmup_steps = 10
    tiny_config.train.max_steps = 100
    schedule = optimizer.make_schedule(tiny_config, steps_per_epoch=7)
    assert abs(float(schedule(0)) - 0.1) < 1e-3
    rates = [float(schedule(step)) for step in range(10, 101)]
    assert all(b < a for a, b in zip(rates, rates[1:], strict=False))
    assert rates[-1] == 0.0


def moved_by_decay_alone(config):
    params = {
        "a": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
        "norm": {"scale": jnp.ones(2)},
    }
    tx = optimizer.make_optimizer(config, 10)
    grads = {
        "a": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)},
        "norm": {"scale": jnp.zeros(2)},
    }
    updates, _ = tx.update(grads, tx.init(params), params)
    return float(updates["a"]["kernel"][0, 0]), float(updates["a"]["bias"][0]), updates["norm"]


def test_decay_is_on_everything_or_on_matrices_only(tiny_config):
    tiny_config.optimizer.learning_rate = 0.1
    kernel, bias, norm = moved_by_decay_alone(tiny_config)
    np.testing.assert_allclose([kernel, bias, norm["scale"][0]], -0.1 * 0.05, rtol=1e-5)
    tiny_config.optimizer.decay = "matrices"
    kernel, bias, norm = moved_by_decay_alone(tiny_config)
    np.testing.assert_allclose(kernel, -0.1 * 0.05, rtol=1e-5)
    assert bias == 0
    assert norm["scale"][0] == 0


def test_the_bias_correction_keeps_its_digits(tiny_config):
    """Three steps by hand in float64; 1 - b2 ** t in float32 is 1e-5 off at the first ones."""
    tiny_config.optimizer.learning_rate = 1.0
    tiny_config.optimizer.weight_decay = 0.0
    tx = optimizer.make_optimizer(tiny_config, 10**6)
    params = {"kernel": jnp.zeros(3)}
    state, mean, square = tx.init(params), np.zeros(3), np.zeros(3)
    for t in range(1, 4):
        grad = np.array([1e-4, 0.3 * t, -20.0])
        updates, state = tx.update({"kernel": jnp.asarray(grad, jnp.float32)}, state, params)
        mean, square = 0.9 * mean + 0.1 * grad, 0.999 * square + 0.001 * grad**2
        by_hand = mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(updates["kernel"], -by_hand, rtol=1e-6)


def test_clipping_bounds_the_gradient_that_adam_sees(tiny_config):
    tiny_config.optimizer.clip_norm = 1.0
    tx = optimizer.make_optimizer(tiny_config, 10)
    params = {"kernel": jnp.zeros(4)}
    _, state = tx.update({"kernel": jnp.full(4, 50.0)}, tx.init(params), params)
    first_moment = state[1].mu["kernel"]
    np.testing.assert_allclose(jnp.linalg.norm(first_moment), 0.1, rtol=1e-4)  # (1 - b1) * 1


@pytest.mark.parametrize(("field", "value"), [("schedule", "linear"), ("decay", "none")])
def test_unknown_values_name_the_field(tiny_config, field, value):
    tiny_config.optimizer[field] = value
    with pytest.raises(ValueError, match=rf"config\.optimizer\.{field} is '{value}'"):
        optimizer.make_optimizer(tiny_config, 10)


def test_an_epoch_without_steps_is_refused(tiny_config):
    with pytest.raises(ValueError, match=r"config\.train\.batch_size = 8"):
        optimizer.make_schedule(tiny_config, 0)
