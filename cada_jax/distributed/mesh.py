"""All knowledge of meshes and partitions: axes data, fsdp and tensor.

The batch is split over data x fsdp. Parameters and optimizer state are split over fsdp by
a shape rule, and attention heads and MLP columns over tensor by name. One device is a mesh
of one; nothing else in the project asks how many there are.
"""

import contextlib

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh
from ml_collections import ConfigDict

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")


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


def process_batch_slice(mesh: Mesh) -> tuple[int, int]:
    """Which of how many equal runs of a batch's rows this process must provide: (index, count).

    Hosts that share rows, because heads are split between them, have the same index.
    """
    blocks = _host_blocks(mesh)
    own = {
        row
        for row, devices in enumerate(mesh.devices.reshape(batch_divisor(mesh), -1))
        if any(device.process_index == jax.process_index() for device in devices)
    }
    assert blocks is not None, "make_mesh refuses a mesh whose hosts hold no blocks"
    return blocks.index(tuple(sorted(own))), len(blocks)


def batch_divisor(mesh: Mesh | AbstractMesh) -> int:
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


def traced_on(mesh: Mesh) -> contextlib.AbstractContextManager:
    """Inside `jit`: a context in which `current_mesh` is the mesh that the program runs on.

    Outside `jit` that is `jax.set_mesh(mesh)`.
    """
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def current_mesh() -> AbstractMesh | None:
    """The mesh that the program under way is compiled for, None where nobody has set one."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty else mesh


def is_sharded() -> bool:
    """Inside `jit`: whether the rows of a batch lie on more than one device."""
    mesh = current_mesh()
    return mesh is not None and batch_divisor(mesh) > 1
