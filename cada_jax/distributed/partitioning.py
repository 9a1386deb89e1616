"""Which part of an array lies on which device of the mesh."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cada_jax.distributed.mesh import BATCH_AXES

# Smaller arrays are kept whole on every device: gathering them costs more than they weigh.
MIN_FSDP_SIZE = 2**16


# Layers whose output, and whose input, features are split over the tensor axis.
COLUMN_PARALLEL = ("query", "key", "value", "fc1")


ROW_PARALLEL = ("out", "fc2")


def data_sharding(mesh: Mesh) -> NamedSharding:
    """Rows (axis 0) over the devices of data x fsdp."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def _param_spec(mesh: Mesh, path: tuple, shape: tuple[int, ...]) -> PartitionSpec:
    axes: list[str | None] = [None] * len(shape)
    names = [getattr(key, "key", getattr(key, "name", None)) for key in path]
    layer = names[-2] if len(names) > 1 else None
    tensor, fsdp = mesh.shape["tensor"], mesh.shape["fsdp"]
    if tensor > 1 and names[-1] in ("kernel", "bias"):
        split = None
        if layer in COLUMN_PARALLEL:
            split = len(shape) - 1
        elif layer in ROW_PARALLEL and names[-1] == "kernel":
            split = len(shape) - 2
        if split is not None and shape[split] % tensor == 0:
            axes[split] = "tensor"
    if fsdp > 1 and np.prod(shape) >= MIN_FSDP_SIZE:
        free = [i for i, axis in enumerate(axes) if axis is None and shape[i] % fsdp == 0]
        if free:
            axes[max(free, key=lambda i: shape[i])] = "fsdp"
    return PartitionSpec(*axes)


def param_shardings(mesh: Mesh, tree):
    """Shardings for parameters, or anything shaped like them (optimizer state).

    Args:
      mesh: from `make_mesh`.
      tree: pytree of arrays or `jax.ShapeDtypeStruct`.

    Returns:
      A tree of the same structure: the largest dimension that fsdp divides is split over it
      (arrays of at least MIN_FSDP_SIZE entries), heads and MLP columns over tensor.
    """

    def sharding(path, leaf):
        return NamedSharding(mesh, _param_spec(mesh, path, leaf.shape))

    return jax.tree_util.tree_map_with_path(sharding, tree)
