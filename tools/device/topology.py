"""Devices that are not here, by name: what `--device` means, and JAX's descriptions of them.

A TPU is named by its generation and the shape of its slice, "v5e:2x4", several slices with their
number first, "2xv5e:2x4". A GPU is named by its model, "h100", with how many a machine has,
"h100:8", or machines and GPUs of each, "h100:4x8". "cpu" simulates as many devices as the mesh
has. Nothing here needs the device: the compilers of TPUs and GPUs run without one.
"""

import importlib.util
import math
import os
import re
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from tools.device.chips import GPUS, TPUS, Chip, target_config

# The most that a slice has along each side. libtpu ends the process where it is exceeded.
SIDES = {"v5e": (16, 16), "v6e": (16, 16), "v5p": (16, 20, 28)}
KNOWN = (
    "v5e:2x4, v6e:2x4, v5p:2x2x1 (or another slice), 2xv5e:2x4 (two slices), "
    f"{', '.join(GPUS)} (or h100:8, h100:4x8), cpu"
)
_TPU = re.compile(r"(?:([1-9]\d?)x)?(v\d+\w*):([1-9]\d{0,2}(?:x[1-9]\d{0,2}){1,2})", re.ASCII)
_GPU = re.compile(r"([a-z]+\d+)(?::(?:([1-9]\d{0,2})x)?([1-8]))?", re.ASCII)


class Target(NamedTuple):
    """Devices to compile for.

    name: as given; platform: "tpu", "gpu" or "cpu"; chip: None for the CPU; groups: TPU slices, or
    machines with GPUs; shape: of TPUs the sides of a slice, of GPUs how many a machine has.
    """

    name: str
    platform: str
    chip: Chip | None = None
    groups: int = 1
    shape: tuple[int, ...] = ()

    @property
    def together(self) -> int:
        """Devices of a slice or machine; 0 for the CPU."""
        return math.prod(self.shape) if self.chip else 0

    @property
    def devices(self) -> int:
        """How many devices there are; 0 for the CPU, which simulates what the mesh asks for."""
        return self.groups * self.together


def find_target(name: str) -> Target:
    """The devices that a `--device` names.

    Raises:
      UsageError: there are none of that name.
    """
    if name == "cpu":
        return Target(name, "cpu")
    tpu, gpu = _TPU.fullmatch(name), _GPU.fullmatch(name)
    if tpu and tpu[2] in TPUS:
        sides = tuple(int(side) for side in tpu[3].split("x"))
        _check_slice(name, tpu[2], sides)
        return Target(name, "tpu", TPUS[tpu[2]], int(tpu[1] or 1), sides)
    if gpu and gpu[1] in GPUS:
        return Target(name, "gpu", GPUS[gpu[1]], int(gpu[2] or 1), (int(gpu[3] or 1),))
    raise UsageError(f"--device={name}: no such device is known; known: {KNOWN}")


def _check_slice(name: str, generation: str, sides: tuple[int, ...]) -> None:
    """Raises UsageError if a slice of that generation has no such shape."""
    most = SIDES[generation]
    one_chip = len(most) == 2 and sides == (1, 1)
    # A host holds 2 x 2 chips, and a slice is made of hosts.
    whole = all(side % 2 == 0 for side in sides[:2]) or one_chip
    large = any(side > limit for side, limit in zip(sides, most, strict=False))
    if len(sides) != len(most) or large or not whole:
        raise UsageError(
            f"--device={name}: a {generation} slice has {len(most)} sides, the first two even and "
            f"none above {'x'.join(map(str, most))}"
        )


def set_mesh(
    config: ConfigDict, mesh: tuple[int, int, int] | None, target: Target
) -> tuple[int, int, int]:
    """Sets a configuration's mesh, and returns it.

    Args:
      config: its `mesh` is changed.
      mesh: data, fsdp, tensor; None for all devices on data.
      target: the devices.

    Raises:
      UsageError: the mesh does not have as many devices as the target.
    """
    mesh = mesh or (max(1, target.devices), 1, 1)
    if target.devices and math.prod(mesh) != target.devices:
        raise UsageError(
            f"--mesh={'x'.join(map(str, mesh))} has {math.prod(mesh)} devices, "
            f"--device={target.name} has {target.devices}: their numbers must be equal"
        )
    config.mesh.data, config.mesh.fsdp, config.mesh.tensor = mesh
    return mesh


def prepare(target: Target, mesh: tuple[int, int, int]) -> None:
    """Sets the environment that the target's compiler reads; before JAX is imported.

    Raises:
      UsageError: the compiler is not installed.
    """
    # With a GPU's plugin in reach JAX would otherwise look for the GPU itself.
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if target.platform == "cpu":
        devices = f"--xla_force_host_platform_device_count={math.prod(mesh)}"
        # Machine code of level 0: nothing here is run, and HLO is optimised all the same.
        os.environ["XLA_FLAGS"] = f"{devices} --xla_backend_optimization_level=0"
    elif target.platform == "tpu":
        _require("libtpu", target, "aot-tpu")
        os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # no metadata server of a TPU machine to ask
        os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
        os.environ["TPU_ACCELERATOR_TYPE"] = "v5litepod-8"  # read, and of no consequence here
        # No TPU is opened, so that several processes may compile. Whoever sets 0 takes turns.
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        os.environ.setdefault("TPU_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")
    else:
        _require("jax_plugins.xla_cuda13", target, "aot-gpu")
        # Autotuning measures kernels on the GPU, which is not here.
        flags = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()


def _require(module: str, target: Target, extra: str) -> None:
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # the package around it is missing
        found = None
    if found is None:
        raise UsageError(
            f"--device={target.name}: its compiler is not installed; pip install -e '.[{extra}]'"
        )


def devices_of(
    target: Target, mesh: tuple[int, int, int], capability: tuple[int, int] | None = None
) -> list:
    """The target's devices as JAX describes them; for the CPU, simulated ones that the mesh needs.

    Args:
      target: the devices.
      mesh: data, fsdp, tensor.
      capability: that a GPU is described with in place of its own.

    Raises:
      UsageError: the compiler cannot be loaded, or does not know the topology.
    """
    import jax
    from jax.experimental import topologies

    if target.chip is None:
        return jax.devices()[: math.prod(mesh)]
    sides = "x".join(map(str, target.shape))
    if target.platform == "tpu":
        generation = target.name.rpartition(":")[0].rpartition("x")[2]
        options: dict[str, Any] = {"num_slices": target.groups} if target.groups > 1 else {}
        if target.shape == (1, 1):
            options["chips_per_host_bounds"] = (1, 1, 1)
        platform, name = "tpu", f"{generation}:{sides}"
    else:
        platform, name = "cuda", ""
        described = target_config(target.chip, capability)
        options = {"topology": f"1x{target.groups}x{sides}", "target_config": described}
    try:
        return list(topologies.get_topology_desc(name, platform, **options).devices)
    except (RuntimeError, ValueError) as e:
        message = " ".join(str(e).split())[:300]
        raise UsageError(
            f"--device={target.name}: its compiler does not give these devices: {message}"
        ) from e
