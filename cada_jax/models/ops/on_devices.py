"""Kernels on several devices: each computes its rows of a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec

from cada_jax.distributed.mesh import BATCH_AXES, batch_divisor, current_mesh

ROWS = PartitionSpec(BATCH_AXES)
WHOLE = PartitionSpec()


def divides_rows(rows: int) -> bool:
    """Whether the devices of the mesh of JAX's context can share so many rows evenly."""
    mesh = current_mesh()
    return mesh is None or rows % batch_divisor(mesh) == 0


def on_each_device(function: Callable, given: Sequence[Any], returned: Any) -> Callable:
    """`function`, on every device of the mesh of JAX's context over its part of the arrays.

    XLA does not know how to split what a kernel computes. On one device nothing is changed.

    Args:
      function: of arrays, which may be None.
      given: a `PartitionSpec` for each argument.
      returned: those of its results, a tree like them.
    """
    mesh = current_mesh()
    if mesh is None or mesh.size == 1:
        return function
    return jax.shard_map(
        function, mesh=mesh, in_specs=tuple(given), out_specs=returned, check_vma=False
    )
