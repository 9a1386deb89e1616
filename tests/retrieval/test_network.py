"""The network that a retrieval computes with: parameters converted once give the same results."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.common.pytrees import flat_arrays
from cada_jax.models import cada
from cada_jax.network import DENSE, Network, abstract_network
from cada_jax.retrieval import encode, rerank


def network_of(config, dtype: str) -> Network:
    config.model.dtype = dtype
    config.mesh.data = 1
    network = abstract_network(config, jax.devices()[:1])
    return network.with_params(cada.init_params(network.model, config, jax.random.key(0)))


def test_float32_parameters_are_not_copied(tiny_config):
    network = network_of(tiny_config, "float32")
    assert network.computed_params is network.params


def test_only_kernels_of_layers_are_converted(tiny_config):
    network = network_of(tiny_config, "bfloat16")
    before, after = flat_arrays(network.params), flat_arrays(network.computed_params)
    assert before.keys() == after.keys()
    converted = {name for name, x in after.items() if x.dtype == jnp.bfloat16}
    assert converted and all(name.split("/")[-2] in DENSE for name in converted)
    assert {name.split("/")[-2] for name in converted} == set(DENSE)
    assert all(x.dtype == jnp.float32 for x in before.values())


def test_parameters_that_are_shapes_are_converted_as_shapes(tiny_config):
    tiny_config.model.dtype = "bfloat16"
    network = abstract_network(tiny_config, jax.devices()[:8])
    for x in jax.tree.leaves(network.computed_params):
        assert isinstance(x, jax.ShapeDtypeStruct) and x.sharding is not None


@pytest.mark.parametrize("program", ["images", "texts", "rerank"])
def test_the_results_are_the_same_to_the_bit(tiny_config, program):
    network = network_of(tiny_config, "bfloat16")
    plain = dataclasses.replace(network)
    plain.__dict__["computed_params"] = plain.params
    rng = np.random.default_rng(0)
    config = tiny_config
    images = jnp.asarray(rng.integers(0, 256, (2, *config.data.image_size, 3)), jnp.uint8)
    token_ids = jnp.asarray(rng.integers(5, 50, (2, config.data.max_length)), jnp.int32)
    if program == "images":
        inputs = encode._encode_images, images
    elif program == "texts":
        inputs = encode._encode_texts, token_ids
    else:
        tokens = network.run(encode._encode_images, images)[1]
        places = jnp.broadcast_to(jnp.arange(token_ids.shape[1]), token_ids.shape)
        zeros = jnp.zeros_like(token_ids)
        inputs = rerank._match_logits, token_ids, zeros, places, zeros[:, :1], tokens
    ours, expected = (net.run(*inputs) for net in (network, plain))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)
