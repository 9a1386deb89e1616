"""Sums over rows chunk by chunk, and rows that are cut without leaving their device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.distributed import batch
from cada_jax.distributed import mesh as mesh_lib
from cada_jax.objective.accumulation import map_rows, sum_rows


def test_any_number_of_chunks_gives_the_same_values_and_gradients():
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.standard_normal((3, 3)), jnp.float32)}
    rows = rng.standard_normal((8, 3)).astype(np.float32)
    labels = np.arange(8, dtype=np.int32)  # no gradient flows to these

    def encode(params, rows):
        return jnp.tanh(rows @ params["w"])

    def total(params, inputs):
        encoded, labels = inputs
        values = jnp.sum(jnp.sin(encoded @ params["w"]), axis=1) * labels
        return jnp.sum(values), {"labels": jnp.sum(labels).astype(jnp.float32)}

    def loss(params, chunks):
        encoded = map_rows(encode, params, rows, chunks)
        compared = jnp.mean(encoded @ encoded.T)
        value, reported = sum_rows(total, params, (encoded, labels), chunks)
        return compared + 2 * value, reported

    run = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    (whole, reported), gradient = run(params, 1)
    for chunks in (2, 4):
        (value, other), of_chunks = run(params, chunks)
        np.testing.assert_allclose(value, whole, rtol=1e-6)
        np.testing.assert_allclose(of_chunks["w"], gradient["w"], rtol=1e-5)
        assert other == reported == {"labels": 28}


def test_rows_are_split_within_devices_and_merged_again(tiny_config):
    tiny_config.mesh.data = 4
    mesh = mesh_lib.make_mesh(tiny_config.mesh, jax.devices()[:4])
    x = np.arange(48).reshape(24, 2)

    def on_mesh(function):
        """Traced with the mesh in JAX's context."""

        def traced(*arguments):
            with mesh_lib.traced_on(mesh):
                return function(*arguments)

        return jax.jit(traced)

    split = on_mesh(lambda x: batch.split_rows(x, 3))(x)
    assert split.shape == (3, 8, 2)
    # Device 0 holds rows 0 to 5 of the batch: two of them in every chunk.
    np.testing.assert_array_equal(split[:, :2, 0] // 2, [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(on_mesh(batch.merge_rows)(split), x)


@pytest.mark.parametrize("chunks", [0, 3])
def test_chunks_that_do_not_divide_the_batch_are_refused(tiny_config, chunks):
    mesh = mesh_lib.make_mesh(tiny_config.mesh)
    with pytest.raises(ValueError, match=rf"config\.train\.accumulation = {chunks} does not fit"):
        mesh_lib.check_accumulation(mesh, 16, chunks)
    mesh_lib.check_accumulation(mesh, 16, 2)
