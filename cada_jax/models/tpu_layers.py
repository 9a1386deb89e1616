"""Dense layers and LayerNorm as a TPU computes them fastest; the same numbers and parameters.

Sequences stay three-dimensional: a TPU pads each one in memory, and would copy it to flatten it.
What is summed over rows, the gradients of biases and scales, is summed by the matrix unit.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from cada_jax.common.shapes import AnyArray, Array, Float, Float32


def column_sum(x: Float[AnyArray, "*rows D"]) -> Float32[Array, "D"]:
    """The sum over all rows of float [..., D], float32 [D], as a product with ones.

    The vector unit of a TPU takes 17 times as long to add up bfloat16 rows as its matrix unit.
    """
    ones = jnp.ones(x.shape[:-1], x.dtype)
    rows = tuple(range(x.ndim - 1))
    dims = ((rows, rows), ((), ()))
    return jax.lax.dot_general(ones, x, dims, preferred_element_type=jnp.float32)


@jax.custom_vjp
def _with_bias(
    x: Float[AnyArray, "*rows F"], bias: Float32[AnyArray, "F"]
) -> Float[Array, "*rows F"]:
    """X + bias, float32 [F], whose gradient in the bias is `column_sum`."""
    return jnp.add(x, bias.astype(x.dtype).reshape(*(1,) * (x.ndim - 1), -1))


_with_bias.defvjp(
    lambda x, bias: (_with_bias(x, bias), None),
    lambda _, grad: (grad, column_sum(grad)),
)


class Dense(nn.Module):
    """`nn.Dense` whose bias has its gradient from `column_sum`; to be applied, not initialised."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*rows D"]) -> Float[Array, "*rows F"]:
        """Maps float [..., D] to float [..., features]."""
        zeros = nn.initializers.zeros_init()
        kernel = self.param("kernel", zeros, (x.shape[-1], self.features))
        bias = self.param("bias", zeros, (self.features,))
        x, kernel = (jnp.asarray(y, self.dtype) for y in (x, kernel))
        dims = (((x.ndim - 1,), (0,)), ((), ()))
        return _with_bias(jax.lax.dot_general(x, kernel, dims), bias)


def _statistics(x, epsilon):
    """Mean and 1 / standard deviation of each row, float32 [..., 1]; the variance by two passes."""
    x = x.astype(jnp.float32)
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    return mean, jax.lax.rsqrt(variance + epsilon)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalized(
    x: Float[AnyArray, "*rows D"],
    scale: Float32[AnyArray, "D"],
    bias: Float32[AnyArray, "D"],
    epsilon: float,
) -> Float[Array, "*rows D"]:
    """LayerNorm of float [..., D]; the backward pass sums over rows by `column_sum`."""
    return _normalize(x, scale, bias, epsilon)[0]


def _normalize(x, scale, bias, epsilon):
    mean, inverse = _statistics(x, epsilon)
    each = (*(1,) * (x.ndim - 1), -1)
    y = (x.astype(jnp.float32) - mean) * inverse * scale.reshape(each) + bias.reshape(each)
    return y.astype(x.dtype), (x, scale, mean, inverse)


def _normalize_gradient(epsilon, kept, grad):
    x, scale, mean, inverse = kept
    normal = (x.astype(jnp.float32) - mean) * inverse
    of_normal = grad.astype(jnp.float32) * scale.reshape(*(1,) * (x.ndim - 1), -1)
    common = jnp.mean(of_normal, axis=-1, keepdims=True)
    along = normal * jnp.mean(of_normal * normal, axis=-1, keepdims=True)
    of_x = inverse * (of_normal - common - along)
    of_scale = column_sum((grad.astype(jnp.float32) * normal).astype(grad.dtype))
    return of_x.astype(x.dtype), of_scale, column_sum(grad)


normalized.defvjp(_normalize, _normalize_gradient)


class LayerNorm(nn.Module):
    """`nn.LayerNorm` computed by `normalized`."""

    epsilon: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*rows D"]) -> Float[Array, "*rows D"]:
        """Maps float [..., D] to float [..., D]."""
        scale = self.param("scale", nn.initializers.ones_init(), x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros_init(), x.shape[-1:])
        return normalized(jnp.asarray(x, self.dtype), scale, bias, self.epsilon)
