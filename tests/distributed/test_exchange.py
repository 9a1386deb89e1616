"""Rows come to the devices that want them, equal to the bit, and no device holds them all."""

import functools
import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from cada_jax.distributed import mesh as mesh_lib
from cada_jax.distributed import partitioning
from cada_jax.distributed.batch import gather_rows
from cada_jax.distributed.exchange import exchange_rows
from tests.distributed.test_sharding import mesh_config

ROWS = 16
MESHES = [(8, 1, 1), (4, 2, 1), (1, 8, 1), (2, 2, 2), (1, 1, 8), (1, 1, 1)]
INDICES = {
    "identity": np.arange(ROWS),
    "reversed": np.arange(ROWS)[::-1],
    "neighbours": (np.arange(ROWS) + 1) % ROWS,
    "random": np.random.default_rng(0).permutation(ROWS),
    "duplicates": np.random.default_rng(1).integers(0, ROWS, ROWS),
    "all of one device": np.arange(ROWS) % 2 + 6,
    "one row": np.full(ROWS, 5),
    "skewed": np.minimum(np.arange(ROWS), 3),
    "counted from the end": -1 - np.arange(ROWS),
    "outside": np.arange(ROWS) + 9,
}


def mesh_of(sizes):
    devices = jax.devices()[: int(np.prod(sizes))]
    return mesh_lib.make_mesh(mesh_config(*sizes), devices)


def arrays(shape=(ROWS, 5, 7), dtype=jnp.float32):
    rng = np.random.default_rng(2)
    return tuple(jnp.asarray(rng.normal(size=shape), dtype) for _ in range(2))


def rows_and_gradient(gather, x, index, cotangent):
    rows, backward = jax.vjp(lambda x: gather(x, index), x)
    return rows, backward(cotangent)[0]


@functools.cache
def program(sizes, gather=gather_rows):
    """Jitted on the mesh: (x, index, cotangent) -> (rows, gradient), split by rows."""
    mesh = mesh_of(sizes)
    split = partitioning.data_sharding(mesh)

    def run(x, index, cotangent):
        with mesh_lib.traced_on(mesh):
            return rows_and_gradient(gather, x, index, cotangent)

    return jax.jit(run, in_shardings=split, out_shardings=split)


def plain(x, index, cotangent):
    return rows_and_gradient(lambda x, index: x[index], x, index, cotangent)


def gathered_everywhere(x, index):
    """The negative control: every device holds the whole of x."""
    x = jax.lax.with_sharding_constraint(x, PartitionSpec())
    return jax.lax.with_sharding_constraint(x[index], PartitionSpec(mesh_lib.BATCH_AXES))


@pytest.mark.parametrize("sizes", MESHES)
@pytest.mark.parametrize("name", INDICES)
def test_rows_are_equal_to_the_bit_and_gradients_are_those_of_indexing(sizes, name):
    x, cotangent = arrays()
    index = jnp.asarray(INDICES[name], jnp.int32)
    rows, gradient = program(sizes)(x, index, cotangent)
    expected, expected_gradient = plain(x, index, cotangent)
    assert np.array_equal(rows, expected)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6, atol=1e-6)
    once = np.bincount(INDICES[name] % ROWS, minlength=ROWS) <= 1
    if name != "outside":
        assert np.array_equal(gradient[once], expected_gradient[once])


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2)])
@hypothesis.given(index=st.lists(st.integers(0, ROWS - 1), min_size=ROWS, max_size=ROWS))
def test_any_index_gives_the_rows_and_the_gradient_of_indexing(sizes, index):
    x, cotangent = arrays()
    index = jnp.asarray(index, jnp.int32)
    rows, gradient = program(sizes)(x, index, cotangent)
    expected, expected_gradient = plain(x, index, cotangent)
    assert np.array_equal(rows, expected)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 1), (ROWS, 8), (ROWS, 3, 11)])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_features_need_not_divide_among_the_devices(shape, dtype):
    x, cotangent = arrays(shape, dtype)
    index = jnp.asarray(INDICES["random"], jnp.int32)
    rows, gradient = program((4, 2, 1))(x, index, cotangent)
    assert rows.dtype == gradient.dtype == dtype
    for result, expected in zip((rows, gradient), plain(x, index, cotangent), strict=True):
        assert np.array_equal(result, expected)


def test_more_or_fewer_rows_may_be_wanted_than_there_are():
    x, _ = arrays()
    for wanted in (8, 40):
        index = jnp.arange(wanted, dtype=jnp.int32) * 5 % ROWS
        rows, gradient = program((8, 1, 1))(x, index, jnp.ones((wanted, *x.shape[1:])))
        assert np.array_equal(rows, x[index])
        assert np.array_equal(gradient[:, 0, 0], np.bincount(index, minlength=ROWS))


def test_rows_that_do_not_divide_among_the_devices_are_still_gathered():
    mesh = mesh_of((8, 1, 1))
    x, index = arrays((12, 3))[0], jnp.arange(12)[::-1]
    with jax.set_mesh(mesh):
        assert np.array_equal(jax.jit(gather_rows)(x, index), x[index])
        with pytest.raises(ValueError, match="exchange_rows of 12 rows for 12: expected a mesh"):
            jax.jit(exchange_rows)(x, index)
    with pytest.raises(ValueError, match="got None"):
        exchange_rows(x, index)


def test_rows_stay_split_by_rows_also_where_the_tensor_axis_had_split_features():
    mesh = mesh_of((2, 2, 2))
    x, cotangent = arrays((ROWS, 4, 8))
    index = jnp.asarray(INDICES["duplicates"], jnp.int32)
    columns = jax.sharding.NamedSharding(mesh, PartitionSpec(mesh_lib.BATCH_AXES, None, "tensor"))
    with jax.set_mesh(mesh):
        rows, gradient = jax.jit(functools.partial(rows_and_gradient, gather_rows))(
            jax.device_put(x, columns), index, jax.device_put(cotangent, columns)
        )
    expected, expected_gradient = plain(x, index, cotangent)
    assert rows.sharding.is_equivalent_to(partitioning.data_sharding(mesh), rows.ndim)
    assert np.array_equal(rows, expected)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6)


def largest_array(compiled_text):
    """Entries of the largest array that one device holds."""
    shapes = re.findall(r"(?:f32|bf16)\[([\d,]+)\]", compiled_text)
    return max(int(np.prod([int(n) for n in shape.split(",")])) for shape in shapes)


def float_collectives(compiled_text):
    """Kinds of the collectives on anything but integers."""
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    return re.findall(rf" = \(?(?:f32|bf16)\[.*? ({kinds})\(", compiled_text)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_no_device_holds_or_is_sent_the_whole_batch(dtype):
    shape = (64, 9, 32)
    x, index = jax.ShapeDtypeStruct(shape, dtype), jax.ShapeDtypeStruct(shape[:1], jnp.int32)
    whole = int(np.prod(shape))

    def compile_on_eight(gather):
        return program((8, 1, 1), gather).lower(x, index, x).compile()

    ours, control = compile_on_eight(gather_rows), compile_on_eight(gathered_everywhere)
    assert largest_array(control.as_text()) >= whole
    assert largest_array(ours.as_text()) <= whole // 8

    # There and back, forward and backward; of the index everyone gets all.
    assert float_collectives(ours.as_text()) == ["all-to-all"] * 4
    assert set(float_collectives(control.as_text())) == {"all-gather", "all-reduce"}
    temporary = [c.memory_analysis().temp_size_in_bytes for c in (ours, control)]
    assert temporary[0] < temporary[1] / 2
