"""An NVIDIA GPU's operations, their kernels interpreted, equal the plain ones."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax import config as config_lib
from cada_jax.distributed.mesh import make_mesh
from cada_jax.models.ops import gpu, plain, random_bits
from cada_jax.models.ops.gpu_attention import fits, fused_attention
from cada_jax.models.ops.gpu_rows import biased_gelu, residual_norm
from tests.models.ops.compare import assert_alike, normal

HEAD = 64


def draw_of(rows, rate):
    seeds = random_bits.row_seeds(jax.random.key(3), jnp.arange(rows))
    return random_bits.Draw(seeds, rate, 13) if rate else None


def attend(q, k, v, shifts, heads, *given):
    """The kernel: of equal numbers of tokens, queries, keys and values are in one array."""
    packed = (q, k, v) if q.shape == k.shape else (k, v)
    packed = jnp.concatenate(packed, axis=-1)
    arrays = (packed, None) if q.shape == k.shape else (q, packed)
    return fused_attention(arrays, shifts, heads, *given, interpret=True)


def plainly(q, k, v, shifts, *how):
    heads, bias, index, draw = how
    q, k, v = (plain.add_bias(x, shift) for x, shift in zip((q, k, v), shifts, strict=True))
    return plain.attention(q, (k, v), heads, bias, index, *dropping(draw))


def dropping(draw):
    return (draw.own_seeds, draw.rate) if draw else ()


@pytest.mark.parametrize(
    ("tokens", "seen", "heads", "kind", "rate"),
    [
        (21, 21, 2, "causal", 0.1),
        (21, 21, 2, "padding", 0.1),
        (40, 40, 1, None, 0.0),
        (9, 37, 3, None, 0.1),
        (40, 150, 1, "padding", 0.0),
    ],
)
def test_attention_is_the_plain_one_with_the_same_masks(tokens, seen, heads, kind, rate):
    allowed = np.random.default_rng(1).random((2, tokens if kind == "causal" else 1, seen)) < 0.7
    allowed[:, :, 0] = True
    bias = None if kind is None else jnp.where(allowed, 0.0, -10000.0)
    given = [normal(i, 2, size, heads * HEAD) for i, size in enumerate((tokens, seen, seen))]
    how = heads, bias, None, draw_of(2, rate)
    functions = [lambda *x, f=f: f(*x, *how) for f in (attend, plainly)]
    assert_alike(*functions, *given, normal(7, 3, heads * HEAD))


INDICES = {
    "groups": [[0, 1, 0], [1, 1, 0]],
    "some attended by none": [[3, 0, 3, 0, 0, 3]],
}


@pytest.mark.parametrize("name", INDICES)
def test_an_index_says_which_sequence_attends_which(name):
    """The gradient of what several attend is their sum, of what none attends zero."""
    index = jnp.array(INDICES[name], jnp.int32)
    q, k, v = normal(0, 6, 9, 128), normal(1, 4, 13, 128), normal(2, 4, 13, 128)
    how = 2, None, index, draw_of(6, 0.3)
    functions = [lambda *x, f=f: f(*x, *how) for f in (attend, plainly)]
    assert_alike(*functions, q, k, v, normal(7, 3, 128))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_residual_and_norm_are_the_plain_ones(rate, gated):
    """96 is no power of two, and 69 rows are no whole number of a kernel's."""
    draw = draw_of(3, rate)

    def ours(x, y, vectors, rows):
        gate = rows.at[2, 1:].set(0) if gated else None  # the gate's bias is one number
        return residual_norm((x, y), vectors, 1e-6, gate, draw, interpret=True)

    def expected(x, y, vectors, rows):
        gate = (rows[:2].reshape(-1, 1), rows[2, :1]) if gated else None
        branch, norm = (y, vectors[0]), tuple(vectors[1:])
        return plain.OPS.add_and_norm(x, branch, norm, 1e-6, draw, gate)

    shapes = (3, 23, 96), (3, 23, 96), (3, 96), (3, 96)
    x, y, vectors, rows = (normal(i, *shape) for i, shape in enumerate(shapes))
    assert_alike(ours, expected, x, y, vectors, 0.1 * rows)


def test_the_sum_can_be_kept_beside_its_norm():
    def ours(x, y, vectors):
        found = residual_norm((x, y), vectors, 1e-6, keep_sum=True, interpret=True)
        return jnp.concatenate(found)

    def expected(x, y, vectors):
        branch, norm = (y, vectors[0]), tuple(vectors[1:])
        return jnp.concatenate(plain.OPS.sum_and_norm(x, branch, norm, 1e-6)[::-1])

    assert_alike(ours, expected, normal(0, 2, 9, 64), normal(1, 2, 9, 64), normal(2, 3, 64))


@pytest.mark.parametrize("width", [96, 1280])
def test_gelu_and_its_gradient_are_exact(width):
    def ours(h, bias):
        return biased_gelu(h, bias, interpret=True)

    inputs = 3 * normal(0, 69, width), normal(1, width)
    assert_alike(ours, lambda h, bias: plain.gelu(plain.add_bias(h, bias)), *inputs)


def mesh_of(data, tensor):
    config = config_lib.default_config()
    config.mesh.data, config.mesh.fsdp, config.mesh.tensor = data, 1, tensor
    return make_mesh(config.mesh, jax.devices()[: data * tensor])


def test_each_device_computes_its_rows_and_drops_what_one_would():
    draw, (x, vectors) = draw_of(4, 0.5), (normal(1, 4, 9, 128), normal(8, 3, 128))

    def loss(x, vectors, interpret=True):
        packed = jnp.concatenate([x] * 3, axis=-1)
        mixed = fused_attention((packed, None), vectors, 2, None, None, draw, interpret)
        x = residual_norm((x, mixed), vectors, 1e-6, None, draw, False, interpret)
        return jnp.sum(jnp.sin(biased_gelu(x, vectors[0], interpret)))

    expected = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(x, vectors)
    with jax.set_mesh(mesh_of(4, 1)):
        many = jax.jit(jax.value_and_grad(lambda *x: loss(*x), argnums=(0, 1)))(x, vectors)
        assert fits(128, 2, 9, groups=8) and not fits(128, 2, 9, groups=6)
    for ours, one in zip(jax.tree.leaves(many), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, one, rtol=1e-5, atol=1e-5)


def test_what_the_attention_kernel_takes():
    assert fits(768, 12, 197, 1) and fits(96, 3, 256, 1)
    assert not fits(768, 12, 577, 1)  # more than a multiprocessor holds
    assert not fits(96, 2, 73, 1)  # heads of 48


def test_a_gpu_without_the_kernels_takes_the_plain_form_and_says_so(caplog):
    def ops(kind, mesh):
        device = jax.sharding.AbstractDevice(device_kind=kind, num_cores=None, platform="gpu")
        return gpu.ops_of(mesh.abstract_mesh.update(abstract_device=device))

    one, split = mesh_of(1, 1), mesh_of(1, 2)
    assert ops("NVIDIA H100 80GB HBM3", one) is gpu.KERNELS
    assert ops("NVIDIA H100 80GB HBM3", split) is gpu.WITHOUT  # heads of one on two devices
    gpu._say.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert ops("Tesla T4", one) is ops("Tesla T4", one) is plain.OPS
    assert caplog.text.count("Tesla T4 is older than Ampere") == 1
