"""The operations as an NVIDIA GPU computes them fastest; the same numbers.

The kernels need a 16-bit type, a GPU from Ampere on, and heads that are not split over devices.
Where one of these is missing, XLA computes the plain form.
"""

import functools

import jax
import jax.numpy as jnp
from absl import logging
from jax.sharding import AbstractMesh

from cada_jax.models.ops import plain
from cada_jax.models.ops.gpu_attention import fits, fused_attention
from cada_jax.models.ops.gpu_rows import biased_gelu, residual_norm
from cada_jax.models.ops.on_devices import divides_rows

# In the names of NVIDIA's GPUs that Triton's kernels do not run on.
BEFORE_AMPERE = (
    *("K80", "P100", "P40", "P4", "V100", "T4"),
    *("GTX", "GeForce RTX 20", "TITAN", "Quadro"),
)


def takes(x: jax.Array) -> bool:
    """Whether the kernels compute with rows of this array: 16-bit, and whole rows a device."""
    return x.dtype.itemsize == 2 and divides_rows(len(x))


class Kernels(plain.Ops):
    """Whole pieces of a layer in kernels, biases and their gradients included."""

    def project_and_attend(self, queries, seen, maps, heads, bias=None, index=None, draw=None):
        """As of `plain.Ops`; queries, keys and values are one product where their input is one."""
        width = queries.shape[-1]
        groups = len(seen) if index is None else len(index)
        if not (takes(queries) and fits(width, heads, seen.shape[1], groups)):
            return super().project_and_attend(queries, seen, maps, heads, bias, index, draw)

        def projected(x, *kernels):
            kernel = jnp.concatenate([k.astype(x.dtype) for k in kernels], axis=1)
            return self.product(self.flat(x), kernel).reshape(*x.shape[:-1], -1)

        kernels, shifts = zip(*maps, strict=True)
        if seen is queries:
            q, kv = projected(queries, *kernels), None
        else:
            q, kv = projected(queries, kernels[0]), projected(seen, *kernels[1:])
        return fused_attention((q, kv), jnp.stack(shifts), heads, bias, index, draw)

    def add_and_norm(self, x, branch, norm, epsilon, draw=None, gate=None):
        """As of `plain.Ops`."""
        if not takes(x):
            return super().add_and_norm(x, branch, norm, epsilon, draw, gate)
        (y, bias), rows = branch, None
        if gate is not None:
            kernel, shift = gate
            row = jnp.zeros_like(kernel[: x.shape[-1], 0]).at[0].set(shift[0])
            rows = jnp.concatenate([kernel.reshape(2, -1), row[None]])
        return residual_norm((x, y), jnp.stack([bias, *norm]), epsilon, rows, draw)

    def sum_and_norm(self, x, branch, norm, epsilon):
        """As of `plain.Ops`."""
        if not takes(x):
            return super().sum_and_norm(x, branch, norm, epsilon)
        y, bias = branch
        normed, total = residual_norm((x, y), jnp.stack([bias, *norm]), epsilon, keep_sum=True)
        return total, normed

    def mlp(self, x, first, second):
        """As of `plain.Ops`."""
        kernel, bias = first
        if not takes(x):
            return super().mlp(x, first, second)
        hidden = biased_gelu(self.product(self.flat(x), kernel), bias)
        return self.product(hidden, second).reshape(x.shape)


# A scan copies what every layer keeps into arrays of all layers: a fifth of a step.
WITHOUT = plain.OPS._replace(unroll=lambda depth: depth)
KERNELS = Kernels(*WITHOUT)


@functools.cache
def _say(why: str) -> None:
    logging.warning("%s: the network is computed by XLA alone, which takes longer", why)


def ops_of(mesh: AbstractMesh) -> plain.Ops:
    """The operations for GPUs of a mesh, which need not be here."""
    kind = mesh.abstract_device.device_kind
    if any(old in kind for old in BEFORE_AMPERE):
        _say(f"{kind} is older than Ampere, from which on the project's kernels run")
        return plain.OPS
    return KERNELS if mesh.shape.get("tensor", 1) == 1 else WITHOUT
