"""Meshes fit or say why, and split what they should."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from ml_collections import ConfigDict

from cada_jax.distributed import mesh as mesh_lib
from cada_jax.distributed import partitioning


def mesh_config(data=-1, fsdp=1, tensor=1):
    return ConfigDict({"data": data, "fsdp": fsdp, "tensor": tensor})


def test_minus_one_takes_all_that_remain():
    mesh = mesh_lib.make_mesh(mesh_config(-1, 2, 2))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert mesh_lib.batch_divisor(mesh) == 4


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, 8, 1)])
def test_a_mesh_that_does_not_fit_says_so(sizes):
    with pytest.raises(ValueError, match="does not fit 8 devices"):
        mesh_lib.make_mesh(mesh_config(*sizes))


def test_a_batch_that_cannot_be_split_names_the_field():
    mesh = mesh_lib.make_mesh(mesh_config(8))
    mesh_lib.check_batch(mesh, 16, "config.train.batch_size")
    with pytest.raises(ValueError, match=r"config\.train\.batch_size = 12 is not a multiple of 8"):
        mesh_lib.check_batch(mesh, 12, "config.train.batch_size")


def test_heads_that_cannot_be_split_name_the_field():
    mesh = mesh_lib.make_mesh(mesh_config(4, 1, 2))
    mesh_lib.check_heads(mesh, 12, "config.model.text.heads")
    with pytest.raises(ValueError, match=r"text\.heads = 3 is not a multiple of .*tensor = 2"):
        mesh_lib.check_heads(mesh, 3, "config.model.text.heads")


def test_large_parameters_are_split_and_heads_go_to_tensor():
    mesh = mesh_lib.make_mesh(mesh_config(2, 2, 2))
    shape = jax.ShapeDtypeStruct
    tree = {
        "attn": {"query": {"kernel": shape((4, 256, 256), np.float32)}},
        "out": {"kernel": shape((4, 256, 512), np.float32), "bias": shape((4, 512), np.float32)},
        "norm": {"scale": shape((4, 256), np.float32)},
    }
    specs = jax.tree.map(lambda s: s.spec, partitioning.param_shardings(mesh, tree))
    assert specs["attn"]["query"]["kernel"] == PartitionSpec(None, "fsdp", "tensor")
    assert specs["out"]["kernel"] == PartitionSpec(None, "tensor", "fsdp")
    assert specs["out"]["bias"] == PartitionSpec(None, None)
    assert specs["norm"]["scale"] == PartitionSpec(None, None)


def batch_for(config):
    rng = np.random.default_rng(0)
    rows, length = config.train.batch_size, config.data.max_length
    token_ids = rng.integers(110, 190, (rows, length)).astype(np.int32)
    token_ids[:, 0], token_ids[:, 15:] = 101, 0
    return {
        "image": rng.integers(0, 256, (rows, *config.data.image_size, 3), dtype=np.uint8),
        "token_ids": token_ids,
        "phrase_ids": np.where(
            token_ids > 150, 1 + np.arange(length, dtype=np.int32)[None] // 3, 0
        ),
        "attribute_mask": token_ids > 150,
        "pid": (np.arange(rows) // 2).astype(np.int32),
    }
