"""What the tests of this folder share: parameters and files of small models."""

import numpy as np

from cada_jax.checkpoints.torch.sizes import shapes_of


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
        np.testing.assert_array_equal(np.asarray(got[name]), wanted[name], err_msg=name)


def as_tensors(torch, arrays):
    return {name: torch.from_numpy(np.array(x)) for name, x in arrays.items()}


def save(torch, path, tensors, **beside):
    torch.save({"model": as_tensors(torch, tensors), **beside}, path)
    return path
