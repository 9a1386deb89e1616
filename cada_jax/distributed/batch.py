"""Rows of a batch: placed on the devices, kept there, gathered and cut into chunks."""

import contextlib

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cada_jax.distributed.mesh import BATCH_AXES, batch_divisor, is_sharded, process_batch_slice
from cada_jax.distributed.partitioning import data_sharding, replicated


def constrain_rows(x: jax.Array, mesh: Mesh | None) -> jax.Array:
    """Inside `jit`: x [rows, ...] split by rows as a batch is; the same x without a mesh."""
    return jax.lax.with_sharding_constraint(x, data_sharding(mesh)) if is_sharded(mesh) else x


def batch_mesh(mesh: Mesh | None):
    """Inside `jit`: a context of JAX's own that tells `constrain_batch` the mesh, if any."""
    if mesh is None:
        return contextlib.nullcontext()
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def constrain_batch(x: jax.Array) -> jax.Array:
    """Inside `jit`: x [rows, ...] split by rows over the mesh of `batch_mesh`, for the network.

    Where an array is looked up in or multiplied by parameters that fsdp splits, the compiler may
    as well split its features, or leave it whole, and the layers that follow do as it does. Without
    a mesh, or where the rows do not divide evenly, x stays as it is.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or batch_divisor(mesh) == 1 or len(x) % batch_divisor(mesh):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES))


def gather_rows(x: jax.Array, index: jax.Array, mesh: Mesh | None) -> jax.Array:
    """Inside `jit`: x[index], rows of the whole batch for rows of the whole batch.

    Over several devices x is gathered once, as it is: of the choices the compiler has this one
    moves least, and it cannot know how few rows of another device each one needs.
    """
    if not is_sharded(mesh):
        return x[index]
    everywhere = jax.lax.with_sharding_constraint(x, replicated(mesh))
    return constrain_rows(everywhere[index], mesh)


def split_rows(x: jax.Array, chunks: int, mesh: Mesh | None) -> jax.Array:
    """Inside `jit`: x [B, ...] -> [chunks, B / chunks, ...]; no row moves to another device.

    Every device's rows are cut into `chunks` runs; chunk c is the c-th run of every device.
    """
    shards = batch_divisor(mesh) if is_sharded(mesh) else 1
    x = x.reshape(shards, chunks, -1, *x.shape[1:]).swapaxes(0, 1)
    return _constrain_chunks(x.reshape(chunks, -1, *x.shape[3:]), mesh)


def merge_rows(x: jax.Array, mesh: Mesh | None) -> jax.Array:
    """The inverse of `split_rows`: [chunks, B / chunks, ...] -> [B, ...]."""
    chunks, shards = len(x), batch_divisor(mesh) if is_sharded(mesh) else 1
    x = _constrain_chunks(x, mesh).reshape(chunks, shards, -1, *x.shape[2:]).swapaxes(0, 1)
    return constrain_rows(x.reshape(-1, *x.shape[3:]), mesh)


def rows_of_chunk(x: jax.Array, chunk: jax.Array, chunks: int, mesh: Mesh | None) -> jax.Array:
    """Inside `jit`: `split_rows(x, chunks, mesh)[chunk]` for a traced `chunk`."""
    shards = batch_divisor(mesh) if is_sharded(mesh) else 1
    x = x.reshape(shards, chunks, -1, *x.shape[1:])
    x = jax.lax.dynamic_index_in_dim(x, chunk, axis=1, keepdims=False)
    return constrain_rows(x.reshape(-1, *x.shape[2:]), mesh)


def _constrain_chunks(x: jax.Array, mesh: Mesh | None) -> jax.Array:
    if not is_sharded(mesh):
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(None, BATCH_AXES)))


def to_global(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Makes global arrays, split by rows, of this host's share of a batch.

    Args:
      mesh: from `make_mesh`.
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
