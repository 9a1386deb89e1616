"""What the kernels of NVIDIA GPUs have in common: Pallas by Triton, from Ampere on.

A Triton array has sides that are powers of two. What lies beyond the real rows or columns is
masked when it is read and when it is written.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from cada_jax.models.ops import random_bits


def power_of_two(size: int) -> int:
    """The smallest that is not below `size`."""
    return 1 << (size - 1).bit_length()


def drawn(draw: random_bits.Draw | None) -> tuple[jax.Array | None, jax.Array | None]:
    """Seeds [M,2] and place [1] of a draw: a kernel folds the ones by the other itself."""
    if draw is None:
        return None, None
    return jnp.asarray(draw.seeds), jnp.asarray(draw.place, jnp.int32).reshape(1)


def call(
    name: str,
    kernel: Callable,
    given: Sequence[jax.Array],
    shapes: Sequence[jax.ShapeDtypeStruct],
    grid: tuple[int, ...],
    cost: dict[str, int],
    **options: Any,
) -> list[jax.Array]:
    """Runs a kernel that reads and writes whole arrays where it wants.

    Args:
      name: under which it stands in a compiled program.
      kernel: takes a reference for each array in `given`, then for each of the results.
      given: arrays.
      shapes: of the results, with their types.
      grid: at most three sides.
      cost: "flops" of products and "operations" on single numbers of one call. Triton states
        neither; written into the program, they are what `tools.device` estimates by.
      options: `interpret`: computes the same on any platform, slowly, for tests; `warps`, of 32
        threads; `stages`, of a loop's reads: one fewer takes less shared memory.
    """
    interpret, warps = options.get("interpret", False), options.get("warps", 4)
    stages = options.get("stages", 2)
    anywhere = pl.BlockSpec(memory_space=pl.ANY)

    @functools.wraps(kernel)
    def named(*refs):
        kernel(*refs)

    named.__name__ = named.__qualname__ = name  # the name that Triton gives it
    results = pl.pallas_call(
        named,
        out_shape=list(shapes),
        grid=grid,
        in_specs=[anywhere] * len(given),
        out_specs=[anywhere] * len(shapes),
        compiler_params=plgpu.CompilerParams(num_warps=warps, num_stages=stages),
        metadata={key: str(value) for key, value in cost.items()},
        interpret=interpret,
        name=name,
    )(*given)
    return list(results)


def size_of(x: jax.Array | jax.ShapeDtypeStruct) -> int:
    """Numbers in an array."""
    return math.prod(x.shape)


def read(ref, places: tuple, mask, dtype: Any = None):
    """What lies at `places`, zero where the mask is False."""
    other = None if mask is None else 0
    x = plgpu.load(ref.at[places], mask=mask, other=other)
    return x if dtype is None else x.astype(dtype)


def write(ref, places: tuple, x, mask) -> None:
    """Puts x there in the reference's type, where the mask is True."""
    plgpu.store(ref.at[places], x.astype(ref.dtype), mask=mask)


def run(start, size: int):
    """`size` places from `start`; a fixed start may lie so that the run ends beyond the array."""
    return pl.ds(jnp.int32(start) if isinstance(start, int) else start, size)
