"""What a chip can do, by its makers' data sheets: the figures that estimates are compared with."""

from typing import NamedTuple

GIB = 2**30
# What the runtime, the program and the gaps between arrays take of a GPU's memory.
USABLE_GPU = 0.92
# The TPU's compiler refuses a program of more: 15.75 of a v5e's 16 GiB, by its own message.
USABLE_TPU = 15.75 / 16


class Chip(NamedTuple):
    """One device of a mesh.

    name; memory: bytes; usable: share of it that a program may take; peak: FLOP/s of bfloat16
    products, without sparsity; bandwidth: bytes/s of its memory; clock: cycles/s of a TPU's core,
    0 for a GPU; product_rate: FLOP a cycle that the TPU's compiler estimates for a bfloat16 product
    of 8192 x 8192 x 8192; source: of the figures.
    """

    name: str
    memory: int
    usable: float
    peak: float
    bandwidth: float
    clock: float = 0.0
    product_rate: float = 0.0
    source: str = ""

    @property
    def product(self) -> float:
        """FLOP/s that the TPU's compiler gives a large product; the peak for a GPU."""
        return self.clock * self.product_rate if self.clock else self.peak


_TPU_PAGES = "cloud.google.com/tpu/docs: "
_ARRAYS = "; clock: peak / (2 x multiply-accumulate units)"
_NVIDIA = "nvidia.com, data sheet of "

# The clock follows from the peak: a v5e has 4 arrays of 128 x 128 units, a v5p 8 of them, a v6e as
# many units as 4 arrays of 256 x 256. Product rates: libtpu 0.0.42.1, 2026-11-26; a run of
# `tools.device.compile` that compiles for a TPU measures its own.
TPUS = {
    "v5e": Chip(
        "TPU v5e", 16 * GIB, USABLE_TPU, 197e12, 819e9, 1.5e9, 115_044, _TPU_PAGES + "v5e" + _ARRAYS
    ),
    "v5p": Chip(
        "TPU v5p",
        95 * GIB,
        USABLE_TPU,
        459e12,
        2765e9,
        1.75e9,
        236_349,
        _TPU_PAGES + "v5p" + _ARRAYS,
    ),
    "v6e": Chip(
        "TPU v6e",
        32 * GIB,
        USABLE_TPU,
        918e12,
        1640e9,
        1.75e9,
        369_231,
        _TPU_PAGES + "v6e" + _ARRAYS,
    ),
}
GPUS = {
    "h100": Chip(
        "NVIDIA H100 SXM", 80 * 10**9, USABLE_GPU, 989e12, 3352e9, source=_NVIDIA + "the H100"
    ),
    "h200": Chip(
        "NVIDIA H200 SXM", 141 * 10**9, USABLE_GPU, 989e12, 4800e9, source=_NVIDIA + "the H200"
    ),
    "b200": Chip(
        "NVIDIA B200", 180 * 10**9, USABLE_GPU, 2250e12, 8000e9, source=_NVIDIA + "the HGX B200"
    ),
}
