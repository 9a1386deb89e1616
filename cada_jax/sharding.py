"""All knowledge of meshes and partitions: axes data, fsdp and tensor.

The batch is split over data x fsdp. Parameters and optimizer state are split over fsdp by
a shape rule, and attention heads and MLP columns over tensor by name. One device is a mesh
of one; nothing else in the project asks how many there are.
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")
# Smaller arrays are kept whole on every device: gathering them costs more than they weigh.
MIN_FSDP_SIZE = 2**16
# Layers whose output, and whose input, features are split over the tensor axis.
COLUMN_PARALLEL = ("query", "key", "value", "fc1")
ROW_PARALLEL = ("out", "fc2")


def make_mesh(mesh: ConfigDict, devices: list | None = None) -> Mesh:
    """Builds the mesh that `config.mesh` describes over all (or the given) devices.

    Raises:
      ValueError: the axis sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [mesh[axis] for axis in AXES]
    known = int(np.prod([s for s in sizes if s != -1]))
    fitting = sizes.count(-1) <= 1 and all(s == -1 or s >= 1 for s in sizes)
    if fitting and -1 in sizes and len(devices) % known == 0:
        sizes[sizes.index(-1)] = len(devices) // known
    if not fitting or -1 in sizes or int(np.prod(sizes)) != len(devices):
        asked = ", ".join(f"{axis}={mesh[axis]}" for axis in AXES)
        raise ValueError(
            f"config.mesh ({asked}) does not fit {len(devices)} devices: the product of the "
            "axes must equal the number of devices; one axis may be -1, all that remain"
        )
    # Explicit axes, make_mesh's default, do not work with Flax Linen.
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def data_sharding(mesh: Mesh) -> NamedSharding:
    """Rows (axis 0) over the devices of data x fsdp."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_divisor(mesh: Mesh) -> int:
    """The number that a global batch must be a multiple of."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def check_batch(mesh: Mesh, size: int, field: str) -> None:
    """Raises ValueError naming `field` if a batch of `size` rows cannot be split evenly."""
    if size % batch_divisor(mesh):
        raise ValueError(
            f"{field} = {size} is not a multiple of {batch_divisor(mesh)}, the devices that share "
            f"a batch (config.mesh data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']})"
        )


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


def to_global(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Makes global arrays, split by rows, of this host's share of a batch.

    Args:
      mesh: from `make_mesh`.
      batch: host arrays; axis 0 holds this process's rows, in process order.

    Returns:
      Global `jax.Array`s whose axis 0 is all processes' rows.
    """
    sharding = data_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
        for name, value in batch.items()
    }
