"""The operations as a TPU computes them fastest; the same numbers.

Sequences stay three-dimensional: a TPU pads each one in memory, and would copy it to flatten it.
What is summed over rows, the gradients of biases and scales, is summed by the matrix unit.
"""

import functools

import jax
import jax.numpy as jnp

from cada_jax.common.shapes import AnyArray, Array, Float, Float32
from cada_jax.models.ops import plain
from cada_jax.models.ops.tpu_attention import fits, fused_attention


def column_sum(x: Float[AnyArray, "*rows D"]) -> Float32[Array, "D"]:
    """The sum over all rows of float [..., D], float32 [D], as a product with ones.

    The vector unit of a TPU takes 17 times as long to add up bfloat16 rows as its matrix unit.
    """
    ones = jnp.ones(x.shape[:-1], x.dtype)
    rows = tuple(range(x.ndim - 1))
    dims = ((rows, rows), ((), ()))
    return jax.lax.dot_general(ones, x, dims, preferred_element_type=jnp.float32)


@jax.custom_vjp
def add_bias(x, bias):
    """`plain.add_bias`, whose gradient in the bias is `column_sum`."""
    return plain.add_bias(x, bias)


add_bias.defvjp(
    lambda x, bias: (add_bias(x, bias), None),
    lambda _, grad: (grad, column_sum(grad)),
)


def product(x, kernel):
    """`plain.product`."""
    dims = (((x.ndim - 1,), (0,)), ((), ()))
    return jax.lax.dot_general(x, kernel.astype(x.dtype), dims)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x, scale, bias, epsilon):
    """`plain.layer_norm`, whose backward pass sums over rows by `column_sum`."""
    return _normalize(x, scale, bias, epsilon)[0]


def _normalize(x, scale, bias, epsilon):
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(wide - mean), axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(variance + epsilon)
    y = (wide - mean) * inverse * plain.for_each_row(scale, x) + plain.for_each_row(bias, x)
    return y.astype(x.dtype), (x, scale, mean, inverse)


def _normalize_gradient(epsilon, kept, grad):
    x, scale, mean, inverse = kept
    normal = (x.astype(jnp.float32) - mean) * inverse
    of_normal = grad.astype(jnp.float32) * plain.for_each_row(scale, x)
    common = jnp.mean(of_normal, axis=-1, keepdims=True)
    along = normal * jnp.mean(of_normal * normal, axis=-1, keepdims=True)
    of_x = inverse * (of_normal - common - along)
    of_scale = column_sum((grad.astype(jnp.float32) * normal).astype(grad.dtype))
    return of_x.astype(x.dtype), of_scale, column_sum(grad)


layer_norm.defvjp(_normalize, _normalize_gradient)


def attention(q, kv, heads, bias=None, index=None, seeds=None, rate=0.0):
    """`plain.attention`, in one kernel where the sizes allow it."""
    groups = len(kv[0]) if index is None else len(index)
    if fits(q.shape[-1], heads, q.shape[1], kv[0].shape[1], groups):
        return fused_attention(q, kv, bias, index, seeds, rate)
    return plain.attention(q, kv, heads, bias, index, seeds, rate)


# A scan copies what every layer keeps into arrays of all layers: a tenth of a step.
OPS = plain.Ops(lambda x: x, product, add_bias, layer_norm, attention, lambda depth: depth)
