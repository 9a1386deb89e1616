"""Descriptions of NVIDIA GPUs for XLA's compiler, which reads them where the GPU is not here.

The text is an XLA `GpuTargetConfigProto` (xla/stream_executor/device_description.proto). Per GPU
stands what differs; what the CUDA programming guide gives alike for compute capability 9.0 and 10.0
stands once. Versions are those that `jax[cuda13]` of JAX 0.10 brings.
"""

from typing import NamedTuple


class Description(NamedTuple):
    """A GPU's name; compute capability; multiprocessors; GHz; bytes/s, L2 and memory in bytes."""

    name: str
    capability: tuple[int, int]
    cores: int
    clock: float
    bandwidth: int
    cache: int
    memory: int


# Multiprocessors and clock: NVIDIA's architecture papers of Hopper and Blackwell. Memory: what the
# driver reports of it, a little less than the data sheet's.
DESCRIPTIONS = {
    "h100": Description(
        "NVIDIA H100 80GB HBM3", (9, 0), 132, 1.98, 3_352_320_000_000, 52_428_800, 84_978_434_048
    ),
    "h200": Description(
        "NVIDIA H200", (9, 0), 132, 1.98, 4_800_000_000_000, 62_914_560, 150_110_011_392
    ),
    "b200": Description(
        "NVIDIA B200", (10, 0), 148, 1.965, 8_000_000_000_000, 132_644_864, 191_000_000_000
    ),
}
CUDNN, CUDA = (9, 12, 0), (13, 0, 0)


def target_config(name: str) -> str:
    """The text of a `GpuTargetConfigProto`; name: a key of `DESCRIPTIONS`."""
    gpu = DESCRIPTIONS[name]
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: {gpu.cores}
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  memory_bandwidth: {gpu.bandwidth}
  l2_cache_size: {gpu.cache}
  clock_rate_ghz: {gpu.clock}
  device_memory_size: {gpu.memory}
  cuda_compute_capability {{ major: {gpu.capability[0]} minor: {gpu.capability[1]} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: {CUDNN[0]} minor: {CUDNN[1]} patch: {CUDNN[2]} }}
runtime_version {{ major: {CUDA[0]} minor: {CUDA[1]} patch: {CUDA[2]} }}
device_description_str: "{gpu.name}"
"""
