"""All knowledge of meshes and partitions: axes data, fsdp and tensor.

The batch is split over data x fsdp. Parameters and optimizer state are split over fsdp by
a shape rule, and attention heads and MLP columns over tensor by name. One device is a mesh
of one; nothing else in the project asks how many there are.
"""

import contextlib

import jax
import numpy as np
from jax.experimental import mesh_utils
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
    types = (AxisType.Auto,) * len(AXES)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices > 1:
        mesh = Mesh(_over_slices(sizes, slices, devices), AXES, axis_types=types)
    else:
        mesh = jax.make_mesh(sizes, AXES, axis_types=types, devices=devices)
    if _host_blocks(mesh) is None:
        # The order that suits the interconnect mixes the hosts' rows; this one keeps them together.
        by_host = sorted(devices, key=_slice_and_host)
        mesh = Mesh(np.array(by_host).reshape(sizes), AXES, axis_types=types)
    if _host_blocks(mesh) is None:
        raise ValueError(
            f"config.mesh (data={sizes[0]}, fsdp={sizes[1]}, tensor={sizes[2]}) gives a host rows "
            "of the batch that do not follow each other: make config.mesh.tensor divide the "
            "devices of a host, or a multiple of them"
        )
    return mesh


def _slice_and_host(device: jax.Device) -> tuple[int, int, int]:
    return getattr(device, "slice_index", 0), device.process_index, device.id


def _over_slices(sizes: list[int], slices: int, devices: list) -> np.ndarray:
    """Devices of several TPU slices: only the data axis crosses the network between them."""
    if sizes[0] % slices:
        raise ValueError(
            f"config.mesh.data = {sizes[0]} is not a multiple of the {slices} slices: parameters "
            "and heads are split within a slice only, where the interconnect is fast"
        )
    return mesh_utils.create_hybrid_device_mesh(
        (sizes[0] // slices, *sizes[1:]), (slices, 1, 1), devices
    )


def _host_blocks(mesh: Mesh) -> list[tuple[int, ...]] | None:
    """The shares of a batch that each host's devices hold, in order; None if they are no blocks.

    Every block is a run of equal length, and two hosts hold the same block or have none in common.
    """
    rows = {}
    by_row = mesh.devices.reshape(batch_divisor(mesh), -1)
    for row, devices in enumerate(by_row):
        for device in devices:
            rows.setdefault(device.process_index, set()).add(row)
    blocks = sorted({tuple(sorted(held)) for held in rows.values()})
    flat = [row for block in blocks for row in block]
    even = len({len(block) for block in blocks}) == 1
    return blocks if even and flat == list(range(batch_divisor(mesh))) else None


def host_share(mesh: Mesh) -> tuple[int, int]:
    """Which of how many equal runs of a batch's rows this process must provide: (index, count).

    Hosts that share rows, because heads are split between them, have the same index.
    """
    blocks = _host_blocks(mesh)
    own = {
        row
        for row, devices in enumerate(mesh.devices.reshape(batch_divisor(mesh), -1))
        if any(device.process_index == jax.process_index() for device in devices)
    }
    return blocks.index(tuple(sorted(own))), len(blocks)


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


def check_heads(mesh: Mesh, heads: int, field: str) -> None:
    """Raises ValueError naming `field` if tensor does not divide the attention heads.

    The step would run, and gather every layer's queries, keys and values to cut them elsewhere.
    """
    if heads % mesh.shape["tensor"]:
        raise ValueError(
            f"{field} = {heads} is not a multiple of config.mesh.tensor = {mesh.shape['tensor']}: "
            "whole attention heads are split over that axis"
        )


def check_accumulation(mesh: Mesh, size: int, chunks: int) -> None:
    """Raises ValueError if a batch of `size` rows cannot be split into `chunks` on every device."""
    if chunks < 1 or size % (batch_divisor(mesh) * chunks):
        raise ValueError(
            f"config.train.accumulation = {chunks} does not fit config.train.batch_size = {size}: "
            f"expected 1 or more chunks, and a batch that is a multiple of {max(chunks, 1)} chunks "
            f"x {batch_divisor(mesh)} devices that share it"
        )


def spread(mesh: Mesh | None) -> bool:
    """Whether the rows of a batch lie on more than one device."""
    return mesh is not None and batch_divisor(mesh) > 1


def constrain_rows(x: jax.Array, mesh: Mesh | None) -> jax.Array:
    """Inside `jit`: x [rows, ...] split by rows as a batch is; the same x without a mesh."""
    return jax.lax.with_sharding_constraint(x, data_sharding(mesh)) if spread(mesh) else x


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
    if not spread(mesh):
        return x[index]
    everywhere = jax.lax.with_sharding_constraint(x, replicated(mesh))
    return constrain_rows(everywhere[index], mesh)


def split_rows(x: jax.Array, chunks: int, mesh: Mesh | None) -> jax.Array:
    """Inside `jit`: x [B, ...] -> [chunks, B / chunks, ...]; no row moves to another device.

    Every device's rows are cut into `chunks` runs; chunk c is the c-th run of every device.
    """
    shards = batch_divisor(mesh) if spread(mesh) else 1
    x = x.reshape(shards, chunks, -1, *x.shape[1:]).swapaxes(0, 1)
    return _constrain_chunks(x.reshape(chunks, -1, *x.shape[3:]), mesh)


def merge_rows(x: jax.Array, mesh: Mesh | None) -> jax.Array:
    """The inverse of `split_rows`: [chunks, B / chunks, ...] -> [B, ...]."""
    chunks, shards = len(x), batch_divisor(mesh) if spread(mesh) else 1
    x = _constrain_chunks(x, mesh).reshape(chunks, shards, -1, *x.shape[2:]).swapaxes(0, 1)
    return constrain_rows(x.reshape(-1, *x.shape[3:]), mesh)


def rows_of_chunk(x: jax.Array, chunk: jax.Array, chunks: int, mesh: Mesh | None) -> jax.Array:
    """Inside `jit`: `split_rows(x, chunks, mesh)[chunk]` for a traced `chunk`."""
    shards = batch_divisor(mesh) if spread(mesh) else 1
    x = x.reshape(shards, chunks, -1, *x.shape[1:])
    x = jax.lax.dynamic_index_in_dim(x, chunk, axis=1, keepdims=False)
    return constrain_rows(x.reshape(-1, *x.shape[2:]), mesh)


def _constrain_chunks(x: jax.Array, mesh: Mesh | None) -> jax.Array:
    if not spread(mesh):
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(None, BATCH_AXES)))


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
      batch: host arrays; axis 0 holds the rows of this process, see `host_share`.

    Returns:
      Global `jax.Array`s whose axis 0 is all processes' rows.
    """
    sharding, (_, hosts) = data_sharding(mesh), host_share(mesh)

    def whole(value):
        value = np.asarray(value)
        shape = (len(value) * hosts, *value.shape[1:])
        return jax.make_array_from_process_local_data(sharding, value, shape)

    return {name: whole(value) for name, value in batch.items()}
