"""What the tests of this folder share: shapes, parameters and files of small models."""

import functools

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import FrozenConfigDict

from cada_jax.models.cada import from_config, init_params

GRID = (2, 2)  # patches of the golden weights


def shapes_of(config):
    """Our leaf paths and their shapes; tracing a model takes seconds, so each is traced once."""
    return _shapes(config.to_json(), FrozenConfigDict(config))


@functools.cache
def _shapes(_, config):
    model = from_config(config)
    tree = jax.eval_shape(lambda key: init_params(model, config, key), jax.random.key(0))
    return {path: leaf.shape for path, leaf in flatten_dict(tree, sep="/").items()}


def random_leaves(config, seed=0):
    rng = np.random.default_rng(seed)
    return {p: rng.standard_normal(s).astype(np.float32) for p, s in shapes_of(config).items()}


def gated_leaves(config, value):
    """Random parameters with a gate that is `value` everywhere."""
    config.atp.gate = "token"
    leaves = random_leaves(config)
    return {p: np.full_like(x, value) if "/gate/" in p else x for p, x in leaves.items()}


def assert_equal(got, wanted):
    assert set(got) == set(wanted)
    for name in wanted:
        assert got[name].dtype == wanted[name].dtype, name
        np.testing.assert_array_equal(got[name], wanted[name], err_msg=name)


def as_tensors(torch, arrays):
    return {name: torch.from_numpy(np.array(x)) for name, x in arrays.items()}


def save(torch, path, tensors, **beside):
    torch.save({"model": as_tensors(torch, tensors), **beside}, path)
    return path


WORDS = ("word_embeddings.weight", "predictions.bias", "decoder.weight", "decoder.bias")


def cut_vocabulary(weights, rows):
    """`weights` with the first `rows` entries of the vocabulary only."""
    return {n: x[:rows] if n.endswith(WORDS) else x for n, x in weights.items()}
