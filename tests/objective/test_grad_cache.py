"""Rows of a batch are cut into chunks without leaving their device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.distributed import batch
from cada_jax.distributed import mesh as mesh_lib


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
    for chunk in range(3):
        rows = on_mesh(lambda x, c: batch.rows_of_chunk(x, c, 3))(x, jnp.int32(chunk))
        np.testing.assert_array_equal(rows, split[chunk])


@pytest.mark.parametrize("chunks", [0, 3])
def test_chunks_that_do_not_divide_the_batch_are_refused(tiny_config, chunks):
    mesh = mesh_lib.make_mesh(tiny_config.mesh)
    with pytest.raises(ValueError, match=rf"config\.train\.accumulation = {chunks} does not fit"):
        mesh_lib.check_accumulation(mesh, 16, chunks)
    mesh_lib.check_accumulation(mesh, 16, 2)
