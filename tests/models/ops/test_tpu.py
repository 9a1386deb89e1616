"""A TPU's operations, its kernel interpreted, equal the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax import config as config_lib
from cada_jax.distributed.mesh import make_mesh
from cada_jax.models.ops import plain, random_bits, tpu
from cada_jax.models.ops.tpu_attention import fits, fused_attention
from tests.models.ops.compare import assert_alike, normal

HEAD = 64


def test_dense_and_layer_norm_are_the_plain_ones():
    x = normal(0, 5, 7, 32)
    assert_alike(tpu.OPS.dense, plain.OPS.dense, x, normal(1, 32, 16), normal(2, 16))
    norms = [lambda *given, f=f: f(*given, 1e-6) for f in (tpu.layer_norm, plain.layer_norm)]
    assert_alike(*norms, x, normal(1, 32), normal(2, 32))


def arrays(tokens, seen, width, rows=2):
    return [normal(i, rows, size, width) for i, size in enumerate((tokens, seen, seen))]


def both(heads, bias=None, index=None, seeds=None, rate=0.0):
    """The kernel and the plain form as functions of q, k and v."""
    return (
        lambda q, *kv: fused_attention(q, kv, bias, index, seeds, rate, interpret=True),
        lambda q, *kv: plain.attention(q, kv, heads, bias, index, seeds, rate),
    )


@pytest.mark.parametrize("rate", [0.0, 0.1])
@pytest.mark.parametrize("kind", [None, "padding", "causal"])
@pytest.mark.parametrize(("tokens", "seen", "heads"), [(21, 21, 2), (9, 37, 4), (1, 5, 2)])
def test_the_kernel_is_the_plain_attention_with_the_same_masks(tokens, seen, heads, kind, rate):
    allowed = np.random.default_rng(1).random((2, tokens if kind == "causal" else 1, seen)) < 0.7
    allowed[:, :, 0] = True
    bias = None if kind is None else jnp.where(allowed, 0.0, -10000.0)
    seeds = random_bits.row_seeds(jax.random.key(3), jnp.arange(2))
    assert_alike(*both(heads, bias, None, seeds, rate), *arrays(tokens, seen, heads * HEAD))


INDICES = {
    "groups": [[0, 1, 0], [1, 1, 0]],
    "all the same": [[2, 2, 2, 2, 2, 2]],
    "some attended by none": [[3, 0, 3, 0, 0, 3]],
}


@pytest.mark.parametrize("name", INDICES)
def test_an_index_says_which_sequence_attends_which(name):
    """The gradient of what several attend is their sum, of what none attends zero."""
    index = jnp.array(INDICES[name], jnp.int32)
    q, (_, k, v) = normal(0, index.size, 9, 128), arrays(9, 13, 128, rows=4)
    seeds = random_bits.row_seeds(jax.random.key(3), jnp.arange(index.size))
    assert_alike(*both(2, None, index, seeds, 0.3), q, k, v)


def test_scores_far_apart_give_finite_values_and_gradients():
    q, k, v = arrays(9, 9, 128)

    def total(q, k, v):
        return jnp.sum(fused_attention(1e3 * q, (1e3 * k, v), interpret=True))

    gradients = jax.grad(total, argnums=(0, 1, 2))(q, k, v)
    assert all(np.isfinite(x).all() for x in (total(q, k, v), *gradients))


def test_bfloat16_stays_close_to_float32():
    q, k, v = arrays(21, 37, 128)
    half = [x.astype(jnp.bfloat16) for x in (q, k, v)]
    ours = fused_attention(half[0], tuple(half[1:]), interpret=True)
    assert ours.dtype == jnp.bfloat16
    exact = plain.attention(q, (k, v), 2)
    np.testing.assert_allclose(ours.astype(jnp.float32), exact, atol=2e-2)


def mesh_of(data, fsdp, tensor):
    config = config_lib.default_config()
    config.mesh.data, config.mesh.fsdp, config.mesh.tensor = data, fsdp, tensor
    return make_mesh(config.mesh, jax.devices()[: data * fsdp * tensor])


@pytest.mark.parametrize("sizes", [(4, 1, 1), (2, 2, 1), (1, 1, 2), (2, 1, 2)])
def test_each_device_computes_its_rows_and_heads_and_drops_what_one_would(sizes):
    q, k, v = arrays(9, 9, 4 * HEAD, rows=4)
    seeds = random_bits.row_seeds(jax.random.key(3), jnp.arange(4))
    expected = plain.attention(q, (k, v), 4, seeds=seeds, rate=0.5)
    with jax.set_mesh(mesh_of(*sizes)):
        many = jax.jit(lambda *x: fused_attention(x[0], x[1:], None, None, seeds, 0.5, True))
        np.testing.assert_allclose(many(q, k, v), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (dict(), True),
        (dict(heads=3, width=192), False),  # no pairs
        (dict(heads=4, width=128), False),  # heads of 32
        (dict(tokens=4096, seen=4096), False),  # does not fit the fast memory
    ],
)
def test_what_the_kernel_takes(sizes, expected):
    assert fits(**(dict(width=768, heads=12, tokens=197, seen=197, groups=15) | sizes)) is expected


def test_rows_and_heads_that_no_device_gets_whole_do_not_fit():
    given = dict(width=256, heads=4, tokens=9, seen=9)
    with jax.set_mesh(mesh_of(4, 1, 2)):
        assert fits(**given, groups=8) and not fits(**given, groups=6)
    with jax.set_mesh(mesh_of(1, 1, 4)):
        assert not fits(**given, groups=8)
