"""Rows of a batch that lies on several devices, brought to the devices that want them.

Which rows a device wants is known only when the program runs, and shapes are known before. Asking
every device for its share needs room for the worst case: all want the rows of one device. So rows
are not sent as a whole. Each row is cut into as many pieces as there are devices:

    1. All-to-all: device p receives piece p of every row of the batch.
    2. Each device picks, among its pieces, those of the rows that are wanted, whoever wants them.
    3. All-to-all back: each device receives the pieces of the rows that it wants.

A device sends and receives its own share of the batch twice, and holds a few copies of that share,
however many devices there are and whatever the index. Picking is local, so the gradient is the same
path backwards: the pieces of a row that several want are added up on one device, in the dtype and
by the scatter-add of the gradient of `x[index]`. README.md compares other ways.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from cada_jax.distributed.mesh import BATCH_AXES, batch_divisor, current_mesh


def exchange_rows(x: jax.Array, index: jax.Array) -> jax.Array:
    """Inside `jit`, on the mesh of JAX's context: x[index], split by rows as a batch is.

    Args:
      x: [B, ...] of any dtype, B a multiple of the devices that share a batch.
      index: int [M], M such a multiple too; rows of x in any order, any number of times. Numbers
        outside of [-B, B) are treated as `x[index]` does.

    Returns:
      [M, ...] of x's dtype, equal to the bit. Its gradient is summed in that dtype.

    Raises:
      ValueError: there is no mesh, or it does not divide B or M.
    """
    mesh = current_mesh()
    if mesh is None or len(x) % batch_divisor(mesh) or len(index) % batch_divisor(mesh):
        raise ValueError(
            f"exchange_rows of {len(x)} rows for {len(index)}: expected a mesh in JAX's context, "
            f"with devices that divide both; got {mesh}"
        )
    rows = PartitionSpec(BATCH_AXES)
    exchange = functools.partial(_on_one_device, devices=batch_divisor(mesh))
    return jax.shard_map(exchange, in_specs=(rows, PartitionSpec()), out_specs=rows)(x, index)


def _on_one_device(x: jax.Array, index: jax.Array, devices: int) -> jax.Array:
    """x: this device's rows [B / devices, ...]; index: everyone's [M] -> [M / devices, ...]."""
    features = math.prod(x.shape[1:])
    flat = x.reshape(len(x), features)
    # 512 devices do not divide 197 x 768. Zeros fill the last piece: 0.2 % more to send.
    flat = jnp.pad(flat, ((0, 0), (0, -features % devices)))
    send = functools.partial(jax.lax.all_to_all, axis_name=BATCH_AXES, tiled=True)
    pieces = send(flat, split_axis=1, concat_axis=0)
    wanted = send(pieces[index], split_axis=0, concat_axis=1)
    return wanted[:, :features].reshape(-1, *x.shape[1:])
