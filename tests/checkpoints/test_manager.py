"""Checkpoints come back bit by bit, whole or not at all, and say what does not fit."""

import json
import resource

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cada_jax import config as config_lib
from cada_jax.checkpoints import export, manager
from cada_jax.common import pytrees
from cada_jax.common.errors import MissingFileError, NoRoomError, UsageError


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    opt_state: optax.OptState


TX = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


def _params(width: int = 3) -> dict:
    rng = np.random.default_rng(width)
    return {
        "encoder": {"kernel": rng.normal(size=(8, width)), "bias": rng.normal(size=width)},
        "head": rng.normal(size=(width,)),
    }


def _state(width: int = 3, step: int = 0) -> State:
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32) + step, _params(width))
    return State(jnp.asarray(step, jnp.int32), params, TX.init(params))


def _abstract(tree, sharding=None):
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: sharding, tree)
    return pytrees.abstract_arrays(tree, shardings)


def _assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
        assert np.asarray(x).dtype == np.asarray(y).dtype


def test_a_state_comes_back_bit_by_bit_in_a_new_process_view(tmp_path):
    with manager.Checkpoints(tmp_path) as saved:
        assert saved.latest_step is None
        saved.save(7, _state(step=7))
    with manager.Checkpoints(tmp_path) as again:
        assert again.latest_step == 7
        _assert_same(again.restore(_abstract(_state())), _state(step=7))


def test_a_state_is_restored_onto_other_shardings(tmp_path):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.P("x"))
    state = {"a": jnp.arange(8.0), "b": jnp.ones((4, 3))}
    with manager.Checkpoints(tmp_path) as saved:
        saved.save(1, state)
        saved.wait()
        back = saved.restore(_abstract(state, split))
    _assert_same(back, state)
    assert back["a"].sharding == split


def test_a_save_holds_the_values_of_its_moment_though_the_arrays_are_donated_at_once(tmp_path):
    # Large enough that writing is still under way when the next update reuses the memory.
    update = jax.jit(lambda x: jax.tree.map(lambda y: y + 1, x), donate_argnums=0)
    state = update({"x": jnp.zeros((2048, 1024)), "step": jnp.zeros((), jnp.int32)})
    with manager.Checkpoints(tmp_path) as saved:
        saved.save(1, state)
        target = _abstract(state)
        for _ in range(5):
            state = update(state)
        saved.wait()
        back = saved.restore(target)
    assert int(back["step"]) == 1
    assert float(jnp.min(back["x"])) == float(jnp.max(back["x"])) == 1.0


def test_the_newest_and_the_best_are_kept(tmp_path):
    with manager.Checkpoints(tmp_path, keep=2) as saved:
        for step in (1, 2, 3, 4):
            saved.save(step, _state(step=step))
            if step in (1, 3):
                saved.save_best(step, _state(step=step).params, {"score": step / 2})
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["3", "4"]
    assert [p.name for p in (tmp_path / "best").iterdir()] == ["3"]
    with manager.Checkpoints(tmp_path, read_only=True) as again:
        assert (again.latest_step, again.best_step) == (4, 3)
        assert again.best_info() == {"score": 1.5}
        _assert_same(again.restore_best(_abstract(_state().params)), _state(step=3).params)


def test_a_half_written_checkpoint_is_ignored_and_removed(tmp_path):
    with manager.Checkpoints(tmp_path) as saved:
        saved.save(1, _state(step=1))
    whole = tmp_path / "checkpoints" / "1"
    # What a killed process leaves: files under Orbax's temporary name.
    partial = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
    partial.mkdir()
    (partial / "state").mkdir()
    for file in ("_METADATA", "manifest.ocdbt"):
        (partial / "state" / file).write_bytes((whole / "state" / file).read_bytes()[:10])
    with manager.Checkpoints(tmp_path, read_only=True) as reader:
        assert reader.latest_step == 1
    assert partial.exists(), "another process may be writing it"
    with manager.Checkpoints(tmp_path) as again:
        assert again.latest_step == 1
        _assert_same(again.restore(_abstract(_state())), _state(step=1))
    assert not partial.exists()


def test_a_damaged_checkpoint_is_named(tmp_path):
    with manager.Checkpoints(tmp_path) as saved:
        saved.save(1, _state(step=1))
    for file in (tmp_path / "checkpoints" / "1" / "state").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with manager.Checkpoints(tmp_path) as again:
        with pytest.raises(UsageError, match=r"checkpoints/1 cannot be read"):
            again.restore(_abstract(_state()))


def test_a_checkpoint_that_does_not_fit_lists_every_array(tmp_path):
    with manager.Checkpoints(tmp_path) as saved:
        saved.save(1, _state(width=3))
        other = _state(width=4)
        other.params["gate"] = jnp.zeros((2,))
        del other.params["head"]
        saved.wait()
        with pytest.raises(UsageError) as error:
            saved.restore(_abstract(other))
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
        with manager.Checkpoints(tmp_path, keep=1) as saved:
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
    assert "could not be written: File too large" in text and "(the newest: step 1)" in text
    assert str(tmp_path) in text
    with manager.Checkpoints(tmp_path) as again:
        assert again.latest_step == 1
        _assert_same(again.restore(_abstract(large(1))), large(1))
        again.save(2, large(2))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["2"]


def test_keeping_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(UsageError, match="keep_checkpoints is 0"):
        manager.Checkpoints(tmp_path, keep=0)


def test_compare_trees_finds_no_difference_between_a_state_and_its_nested_dicts():
    state = {"a": (jnp.zeros(2), {"b": jnp.ones((1, 2))})}
    stored = {"a": [np.zeros(2), {"b": np.ones((1, 2))}]}
    assert not pytrees.compare_trees(state, stored)
    assert pytrees.compare_trees(state, {"a": [np.zeros(2)]}).missing == {"a/1/b": (1, 2)}


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("[PAD]\nred\n")
    return path


def test_an_exported_model_comes_back_bit_by_bit(tmp_path, tiny_config, vocab):
    params = jax.tree.map(lambda x: np.asarray(x, np.float32), _params())
    card = {"R1": 71.5}
    on_devices = jax.tree.map(jnp.asarray, params)
    path = export.save_model(tmp_path / "model", on_devices, tiny_config, vocab, card)
    back, config, vocab_path = export.load_model(path)
    _assert_same(back, params)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(back))
    assert not config_lib.differing_keys(config, tiny_config)
    hash(config.model.image.size)  # a list would not do as a static argument
    assert vocab_path.read_text() == vocab.read_text()
    assert json.loads((path / "card.json").read_text()) == card


def test_an_exported_model_does_not_tell_where_it_was_made(tiny_config, vocab, tmp_path):
    path = export.save_model(tmp_path / "model", _params(), tiny_config, vocab)
    files = [file for file in path.rglob("*") if file.is_file()]
    assert files
    assert [file for file in files if str(tmp_path).encode() in file.read_bytes()] == []


def test_exporting_again_replaces_the_model_and_leaves_nothing_else(tmp_path, tiny_config, vocab):
    for width in (3, 5):
        export.save_model(
            tmp_path / "out" / "model", _params(width), tiny_config, vocab, overwrite=True
        )
    assert export.load_model(tmp_path / "out" / "model")[0]["head"].shape == (5,)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model"]


def test_an_export_that_fails_leaves_the_old_model(tmp_path, tiny_config, vocab):
    export.save_model(tmp_path / "model", _params(3), tiny_config, vocab)
    with pytest.raises(FileNotFoundError):
        export.save_model(
            tmp_path / "model", _params(5), tiny_config, tmp_path / "none", overwrite=True
        )
    assert export.load_model(tmp_path / "model")[0]["head"].shape == (3,)


def test_a_missing_model_names_what_is_expected(tmp_path):
    with pytest.raises(MissingFileError, match=r"config\.json, vocab\.txt, params"):
        export.load_model(tmp_path / "nothing")
    with pytest.raises(MissingFileError, match="Shipped are"):
        export.load_model("pretrained:no-such-model")
