"""Rows of a batch: placed on the devices, kept there, gathered and cut into chunks.

What runs inside `jit` asks JAX's context for the mesh, see `mesh.current_mesh`.
"""

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from cada_jax.distributed.exchange import exchange_rows
from cada_jax.distributed.mesh import (
    BATCH_AXES,
    batch_divisor,
    current_mesh,
    is_sharded,
    process_batch_slice,
)
from cada_jax.distributed.partitioning import data_sharding


def constrain_rows(x: jax.Array) -> jax.Array:
    """Inside `jit`: x [rows, ...] split by rows as a batch is.

    Where an array is looked up in or multiplied by parameters that fsdp splits, the compiler may
    as well split its features, or leave it whole, and the layers that follow do as it does. Without
    a mesh, or where the rows do not divide evenly, x stays as it is.
    """
    if not is_sharded() or len(x) % _shards():
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES))


def gather_rows(x: jax.Array, index: jax.Array) -> jax.Array:
    """Inside `jit`: x[index], rows of the whole batch for rows of the whole batch.

    Over several devices no device holds the whole of x, see `exchange`. Where x's or the index's
    rows do not divide evenly the compiler decides what is sent.
    """
    if not is_sharded() or len(x) % _shards() or len(index) % _shards():
        return constrain_rows(x[index])
    return exchange_rows(x, index)


def _shards() -> int:
    mesh = current_mesh()
    return 1 if mesh is None else batch_divisor(mesh)


def split_rows(x: jax.Array, chunks: int) -> jax.Array:
    """Inside `jit`: x [B, ...] -> [chunks, B / chunks, ...]; no row moves to another device.

    Every device's rows are cut into `chunks` runs; chunk c is the c-th run of every device.
    """
    x = x.reshape(_shards(), chunks, -1, *x.shape[1:]).swapaxes(0, 1)
    return _constrain_chunks(x.reshape(chunks, -1, *x.shape[3:]))


def merge_rows(x: jax.Array) -> jax.Array:
    """The inverse of `split_rows`: [chunks, B / chunks, ...] -> [B, ...]."""
    chunks = len(x)
    x = _constrain_chunks(x).reshape(chunks, _shards(), -1, *x.shape[2:]).swapaxes(0, 1)
    return constrain_rows(x.reshape(-1, *x.shape[3:]))


def _constrain_chunks(x: jax.Array) -> jax.Array:
    if not is_sharded():
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(None, BATCH_AXES))


def to_global(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Makes global arrays, split by rows, of this host's share of a batch.

    Args:
      batch: host arrays; axis 0 holds the rows of this process, see `process_batch_slice`.

    Returns:
      Global `jax.Array`s whose axis 0 is all processes' rows.
    """
    sharding, (_, hosts) = data_sharding(mesh), process_batch_slice(mesh)

    def whole(value):
        value = np.asarray(value)
        shape = (len(value) * hosts, *value.shape[1:])
        return jax.make_array_from_process_local_data(sharding, value, shape)

    return {name: whole(value) for name, value in batch.items()}


def put_rows(x: np.ndarray, mesh: Mesh) -> jax.Array:
    """Splits rows that every host holds over the mesh, padded with zeros to divide evenly."""
    x = _pad_rows(x, batch_divisor(mesh))
    # Not device_put: among several hosts that first compares what all of them hold.
    return jax.make_array_from_callback(x.shape, data_sharding(mesh), lambda index: x[index])


def put_process_rows(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Joins every host's rows of a batch over the mesh, padded as by `put_rows`."""
    _, hosts = process_batch_slice(mesh)
    return to_global(
        mesh, {name: _pad_rows(x, batch_divisor(mesh) // hosts) for name, x in batch.items()}
    )


def _pad_rows(x: np.ndarray, multiple: int) -> np.ndarray:
    missing = -len(x) % multiple
    return np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x


def rows_to_host(x: jax.Array) -> np.ndarray:
    """The whole of a global array, on every host."""
    if x.is_fully_addressable:
        return np.asarray(x)
    return multihost_utils.process_allgather(x, tiled=True)
