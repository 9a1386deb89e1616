"""The TPU's attention kernel, interpreted, equals the plain form; dropout draws what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax import config as config_lib
from cada_jax.distributed.mesh import make_mesh
from cada_jax.models import random_bits
from cada_jax.models.fused_attention import fits, fused_attention

M, HEAD = 2, 64


def attend(q, k, v, *given, **options):
    return fused_attention(q, (k, v), *given, **options)


def plain(q, k, v, bias, keys, rate):
    """Products, softmax and masks written out, with the kernel's bits."""
    heads, (tokens, seen) = q.shape[-1] // HEAD, (q.shape[1], k.shape[1])
    q, k, v = (x.reshape(*x.shape[:2], heads, HEAD).swapaxes(1, 2) for x in (q, k, v))
    scores = jnp.matmul(q, k.swapaxes(-1, -2)).astype(jnp.float32) / np.sqrt(HEAD)
    weights = jax.nn.softmax(scores if bias is None else scores + bias[:, None], axis=-1)
    if rate:
        places = jnp.arange(tokens * seen, dtype=jnp.int32).reshape(1, tokens, seen)
        first, second = (keys[:, i].reshape(-1, 1, 1) for i in (0, 1))
        kept = [
            random_bits.kept(
                random_bits.hashed(places + head // 2 * tokens * seen, first, second),
                rate,
                head % 2,
            )
            for head in range(heads)
        ]
        weights = jnp.where(jnp.stack(kept, axis=1), weights * random_bits.keep_scale(rate), 0)
    mixed = jnp.matmul(weights.astype(v.dtype), v)
    return mixed.swapaxes(1, 2).reshape(M, tokens, -1)


def arrays(tokens, seen, width, dtype=jnp.float32, rows=M):
    rng = np.random.default_rng(0)
    shapes = ((rows, tokens, width), (rows, seen, width), (rows, seen, width))
    return [jnp.asarray(rng.standard_normal(s, np.float32), dtype) for s in shapes]


def bias_of(kind, tokens, seen):
    if kind is None:
        return None
    allowed = np.random.default_rng(1).random((M, tokens if kind == "causal" else 1, seen)) < 0.7
    allowed[:, :, 0] = True
    return jnp.where(allowed, 0.0, -10000.0).astype(jnp.float32)


@pytest.mark.parametrize("rate", [0.0, 0.1])
@pytest.mark.parametrize("bias", [None, "padding", "causal"])
@pytest.mark.parametrize(("tokens", "seen", "heads"), [(21, 21, 2), (9, 37, 4), (1, 5, 2)])
def test_values_and_gradients_are_those_of_the_plain_form(tokens, seen, heads, bias, rate):
    q, k, v = arrays(tokens, seen, heads * HEAD)
    given = bias_of(bias, tokens, seen), random_bits.row_keys(jax.random.key(3), jnp.arange(M))
    grad = jax.random.normal(jax.random.key(1), q.shape)
    ours, pull = jax.vjp(
        lambda q, *kv: fused_attention(q, kv, given[0], None, given[1], rate, interpret=True),
        q,
        k,
        v,
    )
    expected, pull_plain = jax.vjp(lambda *x: plain(*x, *given, rate), q, k, v)
    np.testing.assert_allclose(ours, expected, atol=2e-6)
    for a, b in zip(pull(grad), pull_plain(grad), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)


def test_bfloat16_stays_close_to_float32():
    inputs = arrays(21, 37, 128)
    exact = plain(*inputs, None, None, 0.0)
    ours = attend(*(x.astype(jnp.bfloat16) for x in inputs), interpret=True)
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_allclose(ours.astype(jnp.float32), exact, atol=2e-2)


def test_scores_far_apart_give_finite_values_and_gradients():
    q, k, v = arrays(9, 9, 128)

    def total(q, k, v):
        return jnp.sum(fused_attention(1e3 * q, (1e3 * k, v), interpret=True))

    gradients = jax.grad(total, argnums=(0, 1, 2))(q, k, v)
    assert all(np.isfinite(x).all() for x in (total(q, k, v), *gradients))


def test_a_row_draws_the_same_whatever_rows_are_beside_it():
    q, k, v = arrays(9, 9, 128)
    keys = random_bits.row_keys(jax.random.key(3), jnp.arange(M))
    whole = fused_attention(q, (k, v), None, None, keys, 0.5, interpret=True)
    alone = fused_attention(q[1:], (k[1:], v[1:]), None, None, keys[1:], 0.5, interpret=True)
    np.testing.assert_array_equal(whole[1:], alone)
    other = fused_attention(q[1:], (k[1:], v[1:]), None, None, keys[:1], 0.5, interpret=True)
    assert np.abs(np.asarray(other - alone)).max() > 0.1  # negative control


def mesh_of(data, fsdp, tensor):
    config = config_lib.default_config()
    config.mesh.data, config.mesh.fsdp, config.mesh.tensor = data, fsdp, tensor
    return make_mesh(config.mesh, jax.devices()[: data * fsdp * tensor])


@pytest.mark.parametrize("sizes", [(4, 1, 1), (2, 2, 1), (1, 1, 2), (2, 1, 2)])
def test_each_device_computes_its_rows_and_heads(sizes):
    """With dropout too: but over tensor, where other heads draw other bits, only its share."""
    inputs = arrays(9, 9, 4 * HEAD, rows=4)
    keys = random_bits.row_keys(jax.random.key(3), jnp.arange(4))
    for rate in (0.0, 0.5):
        one = attend(*inputs, None, None, keys, rate, interpret=True)
        with jax.set_mesh(mesh_of(*sizes)):
            function = jax.jit(lambda *x, rate=rate: attend(*x, None, None, keys, rate, True))
            many = function(*inputs)
        if not rate or sizes[-1] == 1:
            np.testing.assert_allclose(many, one, atol=2e-6)
        else:
            difference = np.abs(np.asarray(many - one))
            assert difference[..., 2 * HEAD :].max() > 0.1
            assert np.isfinite(difference).all()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (dict(), True),
        (dict(heads=4, width=256), True),
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
        assert fits(**given, groups=8)
        assert not fits(**given, groups=6)
    with jax.set_mesh(mesh_of(1, 1, 4)):
        assert not fits(**given, groups=8)


INDICES = {
    "each its own": [[0], [1], [0], [1]],
    "groups": [[0, 1, 0], [1, 1, 0]],
    "all the same": [[2, 2, 2, 2, 2, 2]],
    "some attended by none": [[3, 0, 3, 0, 0, 3]],
    "flat": [3, 1, 2, 3, 0, 0],
}


@pytest.mark.parametrize("name", INDICES)
def test_an_index_says_which_sequence_attends_which(name):
    """The gradient of what several attend is their sum, of what none attends zero."""
    index = jnp.array(INDICES[name], jnp.int32)
    groups, size = (1 if index.ndim == 1 else len(index)), index.size
    q, *_ = arrays(9, 13, 128, rows=size)
    _, k, v = arrays(9, 13, 128, rows=4 if name != "each its own" else 8)
    keys = random_bits.row_keys(jax.random.key(3), jnp.arange(size))
    start = jnp.repeat(jnp.arange(groups) * (len(k) // groups), size // groups)
    attended = start + index.reshape(-1)

    def one_by_one(q, k, v):
        return fused_attention(q, (k[attended], v[attended]), None, None, keys, 0.3, interpret=True)

    def by_index(q, k, v):
        return fused_attention(q, (k, v), None, index, keys, 0.3, interpret=True)

    expected, pull_one = jax.vjp(one_by_one, q, k, v)
    ours, pull = jax.vjp(by_index, q, k, v)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    grad = jax.random.normal(jax.random.key(1), q.shape)
    for a, b in zip(pull(grad), pull_one(grad), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)


def test_dropping_without_keys_is_refused():
    with pytest.raises(ValueError, match="needs keys"):
        attend(*arrays(9, 9, 128), rate=0.1, interpret=True)
