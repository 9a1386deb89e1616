"""What a device can do, by its maker's papers, and how XLA's compiler has a GPU described."""

from typing import NamedTuple

GIB = 2**30
# What the runtime, the program and the gaps between arrays take of a GPU's memory.
USABLE_GPU = 0.92
# The TPU's compiler refuses a program of more: 15.75 of a v5e's 16 GiB, by its own message.
USABLE_TPU = 15.75 / 16
# Seconds from one kernel to the next on a GPU: what starting one costs where nothing hides it.
LAUNCH = 2.5e-6

# Of its peak, what XLA's model gives an H100 for a product of 8192 x 8192 x 8192 in bfloat16.
PRODUCT_SHARE = 780 / 989


class Gpu(NamedTuple):
    """What the compiler is told of a GPU, beside its memory.

    kind: the name that its driver gives; capability: of CUDA; cores: multiprocessors; lanes: of
    float32 in each; cache: L2 in bytes; shared: bytes of shared memory in each; threads: of each.
    """

    kind: str
    capability: tuple[int, int]
    cores: int
    lanes: int
    cache: int
    shared: int
    threads: int = 2048


class Chip(NamedTuple):
    """One device of a mesh.

    Attributes:
      name: for people.
      source: of the figures.
      memory: bytes.
      usable: share of it that a program may take.
      peak: FLOP/s of bfloat16 products that add up in float32, without sparsity.
      bandwidth: bytes/s of its memory.
      clock: cycles/s.
      link: bytes/s that it sends to the devices of its slice or machine, all links one way.
      network: the same to other slices or machines, its share of the host's.
      product_rate: of a TPU, FLOP a cycle that its compiler gives a product of 8192 x 8192 x 8192.
      gpu: None for a TPU.
    """

    name: str
    source: str
    memory: int
    usable: float
    peak: float
    bandwidth: float
    clock: float
    link: float
    network: float
    product_rate: float = 0.0
    gpu: Gpu | None = None

    @property
    def product(self) -> float:
        """FLOP/s that the compiler gives a large product, as last measured."""
        return self.clock * self.product_rate if self.gpu is None else PRODUCT_SHARE * self.peak

    @property
    def vector(self) -> float:
        """Operations/s on single float32 numbers of a GPU, one a lane and cycle."""
        return self.clock * self.gpu.cores * self.gpu.lanes if self.gpu else 0.0


def _tpu(name, memory, peak, bandwidth, clock, link, rate):
    # The clock follows from the peak: a v5e has 4 arrays of 128 x 128 multiply-accumulate units, a
    # v5p 8 of them, a v6e as many units as 4 arrays of 256 x 256. A host of four chips has 100
    # Gbit/s to other slices. Product rates: libtpu 0.0.42.1, 2026-11-26; a run that compiles for a
    # TPU measures its own.
    source = f"cloud.google.com/tpu/docs/{name}"
    sizes = memory * GIB, USABLE_TPU, peak, bandwidth, clock, link, 12.5e9 / 4
    return Chip(f"TPU {name}", source, *sizes, product_rate=rate)


def _gpu(name, paper, gpu, memory, *rates):
    return Chip(f"NVIDIA {name}", f"NVIDIA, {paper}", int(memory), USABLE_GPU, *rates, gpu=gpu)


TPUS = {
    "v5e": _tpu("v5e", 16, 197e12, 819e9, 1.5e9, 200e9, 115_044),
    "v5p": _tpu("v5p", 95, 459e12, 2765e9, 1.75e9, 600e9, 236_349),
    "v6e": _tpu("v6e", 32, 918e12, 1640e9, 1.75e9, 400e9, 369_231),
}
_KIB, _MIB = 2**10, 2**20
# Capability, multiprocessors, lanes, L2, shared memory, threads.
_AMPERE = Gpu("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 40 * _MIB, 164 * _KIB)
_HOPPER = Gpu("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 50 * _MIB, 228 * _KIB)
_BLACKWELL = Gpu("NVIDIA B200", (10, 0), 148, 128, 126 * _MIB, 228 * _KIB)
_L4 = Gpu("NVIDIA L4", (8, 9), 58, 128, 48 * _MIB, 100 * _KIB, 1536)
_AD102 = Gpu("NVIDIA GeForce RTX 4090", (8, 9), 128, 128, 72 * _MIB, 100 * _KIB, 1536)
_GA102 = Gpu("NVIDIA GeForce RTX 3090", (8, 6), 82, 128, 6 * _MIB, 100 * _KIB, 1536)
# Memory, peak, bandwidth, clock, link, network. Link: NVLink one way, or PCIe 4.0 x 16. Network: a
# port of 400 Gbit/s for each GPU from Hopper on, of 200 for an A100, of 100 for a machine's card.
GPUS = {
    "a100": _gpu("A100 SXM", "A100 paper", _AMPERE, 80e9, 312e12, 2039e9, 1.41e9, 300e9, 25e9),
    "h100": _gpu("H100 SXM", "H100 paper", _HOPPER, 80e9, 989e12, 3352e9, 1.98e9, 450e9, 50e9),
    "h200": _gpu(
        "H200 SXM",
        "H200 data sheet",
        _HOPPER._replace(kind="NVIDIA H200", cache=60 * _MIB),
        *(141e9, 989e12, 4800e9, 1.98e9, 450e9, 50e9),
    ),
    "b200": _gpu("B200", "B200 sheet", _BLACKWELL, 180e9, 2250e12, 8e12, 1.965e9, 900e9, 50e9),
    "l4": _gpu("L4", "Ada paper", _L4, 24e9, 121e12, 300e9, 2.04e9, 32e9, 12.5e9),
    "rtx4090": _gpu("RTX 4090", "Ada paper", _AD102, 25.7e9, 165e12, 1008e9, 2.52e9, 32e9, 12.5e9),
    "rtx3090": _gpu("RTX 3090", "GA102 paper", _GA102, 25.7e9, 71e12, 936e9, 1.695e9, 32e9, 12.5e9),
}
# XLA's cost model has rates of products for these capabilities alone, measured on an H100 and a
# B200; for another it refuses to write any estimate.
MODELLED = ((9, 0), (10, 0))
CUDNN, CUDA = (9, 12, 0), (13, 0, 0)  # what `jax[cuda13]` of JAX 0.10 brings


def target_config(chip: Chip, capability: tuple[int, int] | None = None) -> str:
    """The text of a `GpuTargetConfigProto` (xla/stream_executor/device_description.proto).

    Args:
      chip: a GPU.
      capability: in place of its own.
    """
    gpu = chip.gpu
    assert gpu is not None, f"{chip.name} is no GPU"
    major, minor = capability or gpu.capability
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {gpu.shared}
  shared_memory_per_block_optin: {gpu.shared - 1024}
  threads_per_core_limit: {gpu.threads}
  core_count: {gpu.cores}
  fpus_per_core: {gpu.lanes}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  memory_bandwidth: {chip.bandwidth:.0f}
  l2_cache_size: {gpu.cache}
  clock_rate_ghz: {chip.clock / 1e9}
  device_memory_size: {chip.memory}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: {CUDNN[0]} minor: {CUDNN[1]} patch: {CUDNN[2]} }}
runtime_version {{ major: {CUDA[0]} minor: {CUDA[1]} patch: {CUDA[2]} }}
device_description_str: "{gpu.kind}"
"""
