"""The operations' formulas against those of Flax and JAX, and which platform takes which."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.config import default_config
from cada_jax.distributed.mesh import make_mesh
from cada_jax.models.ops import gpu, ops_for, plain, random_bits, tpu
from tests.models.ops.compare import assert_alike, normal


def test_dense_and_layer_norm_are_those_of_flax():
    x, kernel, bias, scale = normal(0, 5, 7, 32), normal(1, 32, 16), normal(2, 16), normal(3, 32)

    def dense(x, kernel, bias):
        return nn.Dense(16).apply({"params": {"kernel": kernel, "bias": bias}}, x)

    def norm(x, scale, bias):
        layer = nn.LayerNorm(epsilon=1e-6, use_fast_variance=False)
        return layer.apply({"params": {"scale": scale, "bias": bias}}, x)

    assert_alike(plain.OPS.dense, dense, x, kernel, bias)
    assert_alike(lambda *given: plain.layer_norm(*given, 1e-6), norm, x, scale, normal(4, 32))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_jax(causal):
    q, k, v = (normal(i, 3, 9, 24) for i in range(3))
    allowed = (jnp.arange(9)[None] < jnp.array([[9], [4], [1]]))[:, None]
    if causal:
        allowed = allowed & jnp.tril(jnp.ones((9, 9), bool))[None]
    bias = jnp.where(allowed, 0.0, -1e4)

    def of_jax(q, k, v):
        q, k, v = (x.reshape(3, 9, 4, 6) for x in (q, k, v))
        mixed = jax.nn.dot_product_attention(q, k, v, mask=allowed[:, None])
        return mixed.reshape(3, 9, 24)

    assert_alike(lambda q, k, v: plain.attention(q, (k, v), 4, bias), of_jax, q, k, v)


def test_an_index_is_as_if_what_is_attended_were_repeated():
    q, (k, v) = normal(0, 6, 5, 8), (normal(i, 4, 7, 8) for i in (1, 2))
    for index in ([[0, 1, 0], [1, 1, 0]], [[3, 0, 3, 0, 0, 3]]):
        start = np.repeat(np.arange(len(index)) * 4 // len(index), 6 // len(index))
        rows = start + np.ravel(index)
        np.testing.assert_allclose(
            plain.attention(q, (k, v), 2, index=jnp.array(index)),
            plain.attention(q, (k[rows], v[rows]), 2),
            atol=1e-6,
        )


def test_attention_drops_weights_of_every_head_by_the_rate():
    """Values of ones: what comes out is the sum of the weights that are kept, scaled."""
    seeds = random_bits.row_seeds(jax.random.key(0), jnp.arange(4))
    kept = plain.kept_weights(seeds, (4, 3, 40, 50), 0.2)
    np.testing.assert_allclose(jnp.mean(kept, axis=(0, 2, 3)), 0.8, atol=0.02)
    first, second = np.asarray(kept[:, 0]), np.asarray(kept[:, 1])  # of one word of bits
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03
    q, ones = jnp.zeros((4, 40, 6)), jnp.ones((4, 50, 6))
    mixed = plain.attention(q, (ones, ones), 3, seeds=seeds, rate=0.2)
    expected = kept.sum(axis=3) / 50 * random_bits.keep_scale(0.2)
    np.testing.assert_allclose(mixed[:, :, ::2], expected.swapaxes(1, 2), rtol=1e-5)


def test_a_platform_takes_its_own_operations():
    assert ops_for(None) is ops_for(make_mesh(default_config().mesh)) is plain.OPS
    mesh = make_mesh(default_config().mesh, jax.devices()[:1]).abstract_mesh
    for platform, ops in (("tpu", tpu.OPS), ("cuda", gpu.KERNELS), ("gpu", gpu.KERNELS)):
        device = jax.sharding.AbstractDevice(device_kind="x", num_cores=None, platform=platform)
        assert ops_for(mesh.update(abstract_device=device)) is ops
