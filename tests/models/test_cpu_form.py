"""The network's CPU form computes what the plain form does, with the same parameters."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from cada_jax.config import default_config
from cada_jax.distributed import mesh as mesh_lib
from cada_jax.models import vit
from cada_jax.models.cpu_layers import StridedConv


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def on_one_cpu():
    """JAX's context as inside a program of one CPU: the network's form is chosen by the mesh."""
    return mesh_lib.traced_on(mesh_lib.make_mesh(default_config().mesh, jax.devices()[:1]))


def assert_alike(run, plain, *inputs):
    """Equal values of equal trees, and equal gradients of every input."""
    expected, ours = (jax.vjp(f, *inputs) for f in (plain, run))
    grad = jax.tree.map(lambda x: normal(9, *x.shape), expected[0])
    for a, b in ((ours[0], expected[0]), (ours[1](grad), expected[1](grad))):
        assert jax.tree.structure(a) == jax.tree.structure(b)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(y).max()))


@pytest.mark.parametrize("shape", [(2, 2, 2, 3), (1, 4, 6, 3), (3, 8, 2, 1), (2, 12, 10, 5)])
def test_the_strided_convolution_is_that_of_flax(shape):
    plain, ours = nn.Conv(7, (3, 3), strides=2), StridedConv(7)
    x = normal(0, *shape)
    params = plain.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(1), x), params)
    assert_alike(ours.apply, plain.apply, params, x)


def test_the_stem_on_a_cpu_is_the_plain_one():
    stem, x = vit.ConvStem((4, 6)), normal(0, 2, 8, 12, 3)
    params = stem.init(jax.random.key(1), x)

    def on_cpu(params, x):
        with on_one_cpu():
            return stem.apply(params, x)

    with on_one_cpu():
        text = str(jax.make_jaxpr(stem.apply)(params, x))
        again = stem.init(jax.random.key(1), x)
    assert text.count("conv_general_dilated[") == 1  # the second convolution stays one
    assert str(jax.make_jaxpr(stem.apply)(params, x)).count("conv_general_dilated[") == 2
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert_alike(on_cpu, stem.apply, params, x)
