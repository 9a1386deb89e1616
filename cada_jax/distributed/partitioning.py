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


def _split_largest(
    mesh: Mesh, axes: list[str | None], shape: tuple[int, ...], axis: str
) -> list[str | None]:
    """`axes` with the largest dimension that is whole, and that `axis` divides, split over it."""
    devices = mesh.shape[axis]
    free = [i for i, held in enumerate(axes) if held is None and shape[i] % devices == 0]
    if devices == 1 or not free or np.prod(shape) < MIN_FSDP_SIZE:
        return axes
    largest = max(free, key=lambda i: shape[i])
    return [axis if i == largest else held for i, held in enumerate(axes)]


def _param_axes(mesh: Mesh, path: tuple, shape: tuple[int, ...]) -> list[str | None]:
    axes: list[str | None] = [None] * len(shape)
    names = [getattr(key, "key", getattr(key, "name", None)) for key in path]
    layer = names[-2] if len(names) > 1 else None
    tensor = mesh.shape["tensor"]
    if tensor > 1 and names[-1] in ("kernel", "bias"):
        split = None
        if layer in COLUMN_PARALLEL:
            split = len(shape) - 1
        elif layer in ROW_PARALLEL and names[-1] == "kernel":
            split = len(shape) - 2
        if split is not None and shape[split] % tensor == 0:
            axes[split] = "tensor"
    return _split_largest(mesh, axes, shape, "fsdp")


def param_shardings(mesh: Mesh, tree):
    """Shardings for parameters, or anything shaped like them (optimizer state).

    Returns:
      A tree of the same structure: the largest dimension that fsdp divides is split over it
      (arrays of at least MIN_FSDP_SIZE entries), heads and MLP columns over tensor.
    """

    def sharding(path, leaf):
        return NamedSharding(mesh, PartitionSpec(*_param_axes(mesh, path, leaf.shape)))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def optimizer_shardings(mesh: Mesh, tree):
    """Shardings for what is shaped like parameters and read by the optimizer alone.

    An update of a parameter needs the sum of its gradient over the batch, and nothing of another
    parameter. So each device of the data axis can do a share of the updates, and hold the moments
    of that share alone, as ZeRO-1 does (Rajbhandari et al., 2020): the sum of the gradient arrives
    in shares, the new parameters are gathered, and the two send what an all-reduce sends.

    Args:
      tree: pytree of arrays or `jax.ShapeDtypeStruct`: moments, or the gradient.

    Returns:
      A tree of the same structure: as `param_shardings` has it, and the largest dimension left
      that data divides split over data (arrays of at least MIN_FSDP_SIZE entries).
    """

    def sharding(path, leaf):
        axes = _split_largest(mesh, _param_axes(mesh, path, leaf.shape), leaf.shape, "data")
        return NamedSharding(mesh, PartitionSpec(*axes))

    return jax.tree_util.tree_map_with_path(sharding, tree)
