"""Checksums do not depend on the mesh, and any change of an array changes one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.checkpoints import digests


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(digests, "BLOCK_BYTES", 64)


SPECS = [jax.P("x", "y"), jax.P("y"), jax.P(None, "x"), jax.P(("x", "y")), jax.P()]


def tree():
    return {
        "a": jnp.arange(64.0).reshape(8, 8),
        "b": jnp.ones((3,), jnp.bfloat16),
        "empty": jnp.zeros((0, 4)),
        "scalar": jnp.zeros((), jnp.int32),
    }


def placed(mesh, spec, **changes):
    whole = tree() | changes
    return whole | {"a": jax.device_put(whole["a"], jax.sharding.NamedSharding(mesh, spec))}


@pytest.mark.parametrize("spec", SPECS)
def test_what_one_mesh_saved_is_compared_on_any_other(mesh, spec, small_blocks):
    stored = digests.Parts(placed(mesh, spec)).checksums()
    assert len(stored["a"]["blocks"]) >= 4
    changed = tree()["a"].at[7, 7].add(1e-3)
    for other in SPECS:
        assert digests.find_damage(placed(mesh, other), stored) == []
        assert digests.find_damage(placed(mesh, other, a=changed), stored) == ["a"]
    assert digests.find_damage(jax.device_get(tree()), stored) == []


OTHERS = {
    "a dtype": {"b": jnp.ones((3,), jnp.float32)},
    "a shape": {"b": jnp.ones((1, 3), jnp.bfloat16)},
    "a name": {"c": jnp.ones((3,), jnp.bfloat16)},
    "minus zero": {"scalar": jnp.zeros((), jnp.float32)},
}


@pytest.mark.parametrize("change", OTHERS)
def test_a_name_a_shape_or_a_dtype_is_noticed(change):
    stored = digests.Parts(tree()).checksums()
    assert digests.find_damage(tree() | OTHERS[change], stored) == list(OTHERS[change])


def test_processes_that_each_wrote_a_part_are_compared_as_one(mesh, small_blocks):
    stored = digests.Parts(placed(mesh, SPECS[0])).checksums()
    parts = [{**stored["a"], "blocks": stored["a"]["blocks"][i::2]} for i in range(2)]
    merged = digests.merge([{"a": part} for part in parts])
    assert digests.find_damage({"a": tree()["a"]}, merged) == []
    assert digests.find_damage({"a": tree()["a"]}, {"a": parts[0]}) == ["a"]  # a process is missing
    with pytest.raises(ValueError, match="of two arrays"):
        digests.merge([{"a": parts[0]}, {"a": {**parts[1], "shape": [64]}}])


@given(
    shape=st.lists(st.integers(0, 5), max_size=3),
    dtype=st.sampled_from(["float32", "bfloat16", "int8", "bool", "float64"]),
    block=st.sampled_from([1, 7, 64, 2**24]),
    data=st.data(),
)
def test_any_array_is_as_it_was_and_any_byte_of_it_is_compared(shape, dtype, block, data):
    rng = np.random.default_rng(sum(shape))
    array = rng.integers(0, 2, shape).astype(jnp.dtype(dtype))
    before, digests.BLOCK_BYTES = digests.BLOCK_BYTES, block
    try:
        stored = digests.loads(digests.dumps(digests.Parts({"x": array}).checksums()))["arrays"]
    finally:
        digests.BLOCK_BYTES = before
    assert digests.find_damage({"x": array}, stored) == []
    if array.size:
        other = array.copy()
        place = data.draw(st.integers(0, array.nbytes - 1))
        other.reshape(-1).view(np.uint8)[place] ^= 1
        assert digests.find_damage({"x": other}, stored) == ["x"]


TEXT = digests.dumps({"x": {"dtype": "int32", "shape": [1], "blocks": [[[[0, 1]], "00ff00ff"]]}})


@given(place=st.integers(0, len(TEXT) - 1), byte=st.integers(32, 126))
def test_checksums_notice_their_own_damage(place, byte):
    changed = TEXT[:place] + chr(byte) + TEXT[place + 1 :]
    try:
        assert digests.loads(changed) == digests.loads(TEXT)  # white space
    except ValueError as e:
        assert "checksums" in str(e)
