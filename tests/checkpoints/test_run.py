"""Checkpoints come back bit by bit, whole or not at all, and say what does not fit."""

import resource

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cada_jax.checkpoints import run
from cada_jax.common.errors import NoRoomError, UsageError
from tests.checkpoints.saved import abstract


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    opt_state: optax.OptState


TX = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


def _state(width: int = 3, step: int = 0) -> State:
    rng = np.random.default_rng(width)
    params = {
        "encoder": {"kernel": rng.normal(size=(8, width)), "bias": rng.normal(size=width)},
        "head": rng.normal(size=(width,)),
    }
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32) + step, params)
    return State(jnp.asarray(step, jnp.int32), params, TX.init(params))


def _assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
        assert np.asarray(x).dtype == np.asarray(y).dtype


def test_a_state_comes_back_bit_by_bit_in_a_new_process_view(tmp_path):
    with run.Checkpoints(tmp_path) as saved:
        assert saved.latest_step is None
        saved.save(7, _state(step=7))
    with run.Checkpoints(tmp_path) as again:
        assert again.latest_step == 7
        _assert_same(again.restore(abstract(_state())), _state(step=7))


def test_a_state_is_restored_onto_other_shardings(tmp_path):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.P("x"))
    state = {"a": jnp.arange(8.0), "b": jnp.ones((4, 3))}
    with run.Checkpoints(tmp_path) as saved:
        saved.save(1, state)
        back = saved.restore(abstract(state, split))
    _assert_same(back, state)
    assert back["a"].sharding == split


def test_a_save_holds_the_values_of_its_moment_though_the_arrays_are_donated_at_once(tmp_path):
    # Large enough that writing is still under way when the next update reuses the memory.
    update = jax.jit(lambda x: jax.tree.map(lambda y: y + 1, x), donate_argnums=0)
    state = update({"x": jnp.zeros((2048, 1024)), "step": jnp.zeros((), jnp.int32)})
    with run.Checkpoints(tmp_path) as saved:
        saved.save(1, state)
        target = abstract(state)
        for _ in range(5):
            state = update(state)
        back = saved.restore(target)
    assert int(back["step"]) == 1
    assert float(jnp.min(back["x"])) == float(jnp.max(back["x"])) == 1.0


def test_old_states_go_the_newest_and_the_best_stay(tmp_path):
    with run.Checkpoints(tmp_path, keep=2) as saved:
        for step in range(1, 5):
            saved.save(step, _state(step=step))
            if step in (1, 3):
                saved.save_best(step, _state(step=step).params, {"score": step / 2})
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["3", "4"]
    assert [p.name for p in (tmp_path / "best").iterdir()] == ["3"]
    with run.Checkpoints(tmp_path, read_only=True) as again:
        assert (again.latest_step, again.best_step) == (4, 3)
        assert again.best_info() == {"score": 1.5}
        _assert_same(again.restore_best(abstract(_state().params)), _state(step=3).params)


def test_a_half_written_checkpoint_is_ignored_and_removed(tmp_path):
    with run.Checkpoints(tmp_path) as saved:
        saved.save(1, _state(step=1))
    partial = tmp_path / "checkpoints" / ".2.partial"
    (partial / "state.orbax-checkpoint-tmp").mkdir(parents=True)
    with run.Checkpoints(tmp_path, read_only=True) as reader:
        assert reader.latest_step == 1
    assert partial.exists(), "another process may be writing it"
    with run.Checkpoints(tmp_path) as again:
        assert again.latest_step == 1
        _assert_same(again.restore(abstract(_state())), _state(step=1))
    assert not partial.exists()


def test_a_checkpoint_that_does_not_fit_lists_every_array(tmp_path):
    with run.Checkpoints(tmp_path) as saved:
        saved.save(1, _state(width=3))
        other = _state(width=4)
        other.params["gate"] = jnp.zeros((2,))
        del other.params["head"]
        with pytest.raises(UsageError) as error:
            saved.restore(abstract(other))
    text = str(error.value)
    assert "missing: params/gate (2,)" in text
    assert "unexpected: params/head (3,)" in text
    assert "misshaped: params/encoder/kernel, expected (8, 4), got (8, 3)" in text
    assert "misshaped: opt_state/1/0/mu/encoder/bias, expected (4,), got (3,)" in text
    assert str(tmp_path) in text


def test_no_room_while_saving_is_one_message_and_keeps_what_was_saved(tmp_path):
    def large(step):
        rng = np.random.default_rng(step)  # random, or it would be compressed
        return {"x": jnp.asarray(rng.normal(size=(256, 256)), jnp.float32)}

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(NoRoomError) as error:
        with run.Checkpoints(tmp_path, keep=1) as saved:
            saved.save(1, large(1))
            saved.wait()
            # The kernel then refuses to let a file grow: as real as a full disk, and for us alone.
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
            try:
                saved.save(2, large(2))
                saved.wait()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    text = str(error.value)
    assert "Not written: File too large" in text and "newest checkpoint is of step 1" in text
    assert str(tmp_path) in text and len(text.splitlines()) == 1
    with run.Checkpoints(tmp_path) as again:
        assert again.latest_step == 1
        _assert_same(again.restore(abstract(large(1))), large(1))
        again.save(2, large(2))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["2"]
