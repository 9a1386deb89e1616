"""The operations as an NVIDIA GPU computes them fastest; the same numbers.

The kernels need a 16-bit type, a GPU from Ampere on, and heads that are not split over devices.
Where one of these is missing, XLA computes the plain form.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from einops import rearrange
from jax.sharding import AbstractMesh

from cada_jax.models.ops import plain
from cada_jax.models.ops.gpu_attention import fits, fused_attention
from cada_jax.models.ops.gpu_rows import biased_gelu, residual_norm
from cada_jax.models.ops.on_devices import divides_rows

# In the names of NVIDIA's GPUs that neither Triton's kernels nor cuDNN's attention run on.
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


def attention(q, kv, heads, bias=None, index=None, seeds=None, rate=0.0):
    """`plain.attention`, by cuDNN where it has a kernel."""
    dropping = seeds is not None and rate > 0
    if dropping or not cudnn_fits(q.dtype, q.shape[1], kv[0].shape[1], bias is not None):
        return plain.attention(q, kv, heads, bias, index, seeds, rate)
    kv = kv if index is None else tuple(plain.attended(x, index) for x in kv)
    return _by_cudnn(q, kv, heads, bias)


def cudnn_fits(dtype: jnp.dtype, tokens: int, seen: int, biased: bool) -> bool:
    """Whether cuDNN's fused attention computes this, without dropout.

    It needs a 16-bit type. Its gradient with a bias needs even numbers of tokens.
    """
    return dtype.itemsize == 2 and (not biased or (tokens % 2 == 0 and seen == tokens))


def _by_cudnn(q, kv, heads, bias):
    """The kernel of cuDNN, which keeps neither products nor weights: [M,T,D]."""
    (k, v), (rows, tokens, _), seen = kv, q.shape, kv[0].shape[1]
    lengths: dict[str, Any] = {}
    if bias is not None:
        bias = jnp.broadcast_to(bias[:, None], (rows, 1, tokens, seen)).astype(q.dtype)
    elif tokens % 2 or seen % 2:
        # Its gradient takes even numbers of tokens only; one more is added and masked.
        q = jnp.pad(q, ((0, 0), (0, tokens % 2), (0, 0)))
        k, v = (jnp.pad(x, ((0, 0), (0, seen % 2), (0, 0))) for x in (k, v))
        lengths["query_seq_lengths"] = jnp.full((rows,), tokens, jnp.int32)
        lengths["key_value_seq_lengths"] = jnp.full((rows,), seen, jnp.int32)
    q, k, v = (rearrange(x, "b t (n d) -> b t n d", n=heads) for x in (q, k, v))
    mixed = jax.nn.dot_product_attention(q, k, v, bias, implementation="cudnn", **lengths)
    return rearrange(mixed, "b t n d -> b t (n d)")[:, :tokens]


# A scan copies what every layer keeps into arrays of all layers: a fifth of a step.
LIBRARIES = plain.OPS._replace(attention=attention, unroll=lambda depth: depth)
KERNELS = Kernels(*LIBRARIES)


@functools.cache
def _say(why: str) -> None:
    logging.warning("%s: the network is computed by XLA alone, which takes longer", why)


def ops_of(mesh: AbstractMesh) -> plain.Ops:
    """The operations for GPUs of a mesh, which need not be here."""
    kind = mesh.abstract_device.device_kind
    if any(old in kind for old in BEFORE_AMPERE):
        _say(f"{kind} is older than Ampere, from which on the project's kernels run")
        return plain.OPS
    return KERNELS if mesh.shape.get("tensor", 1) == 1 else LIBRARIES
