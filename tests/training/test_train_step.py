"""The step learns, is a function of (seed, step), and every switch does what it says."""

import flax
import jax
import numpy as np
import optax
import pytest

from cada_jax.distributed.batch import to_global
from cada_jax.models.ops.plain import FEW_LAYERS
from cada_jax.network import abstract_network
from cada_jax.training import train_step
from cada_jax.training.setup import TrainSetup
from tests.distributed.test_sharding import batch_for


def build(config, tx, devices=1):
    network = abstract_network(config, jax.devices()[:devices])
    setup = TrainSetup(network, tx, lambda step: 0.0, steps_per_epoch=1)
    step = train_step.make_train_step(setup)
    return train_step.init_state(setup), step, to_global(network.mesh, batch_for(config))


def test_one_batch_is_overfitted_and_the_gate_moves(tiny_config):
    tiny_config.augment.flip = tiny_config.augment.erase = 0.0
    tiny_config.augment.pad = 0
    tiny_config.loss.ara_weight = 1.0
    state, step, batch = build(tiny_config, optax.adam(3e-3))
    first = None
    for _ in range(150):
        state, metrics = step(state, batch, jax.random.key(0))
        first = first or jax.device_get(metrics)
    last = jax.device_get(metrics)
    assert last["total"] < 0.5 * first["total"]
    assert last["ara"] < 0.5 * first["ara"]
    gate = jax.device_get(state.params)["text_encoder"]["layers"]["gate"]
    assert np.abs(gate["kernel"]).max() > 1e-3


def test_the_step_is_a_function_of_seed_and_step(tiny_config):
    tiny_config.model.text.dropout = 0.1
    tiny_config.atp.negatives = "sampled"
    state, step, batch = build(tiny_config, optax.sgd(0.0))
    runs = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fresh = jax.tree.map(lambda x: x.copy(), state)
        totals = []
        for _ in range(2):
            fresh, metrics = step(fresh, batch, jax.random.key(seed))
            totals.append(float(metrics["total"]))
        runs[name] = totals
    assert runs["a"] == runs["b"]
    assert runs["a"] != runs["c"]
    # The parameters stay (rate 0): only the folded step can change what is drawn.
    assert runs["a"][0] != runs["a"][1]


@pytest.mark.parametrize(("field", "absent"), [("atp_weight", "match"), ("ara_weight", "ara")])
def test_a_weight_of_zero_leaves_the_loss_out(tiny_config, field, absent):
    tiny_config.loss[field] = 0.0
    state, step, batch = build(tiny_config, optax.sgd(1.0))
    before = flax.traverse_util.flatten_dict(jax.device_get(state.params))
    state, metrics = step(state, batch, jax.random.key(0))
    assert absent not in metrics
    after = flax.traverse_util.flatten_dict(jax.device_get(state.params))
    parts = {"match": "itm_head", "ara": "attribute_decoder"}
    for key in before:
        if key[0] == parts[absent]:
            assert np.array_equal(before[key], after[key])


def test_total_is_the_weighted_sum(tiny_config):
    state, step, batch = build(tiny_config, optax.sgd(0.1))
    _, m = step(state, batch, jax.random.key(0))
    expected = m["global"] + m["match"] + m["group"] + 0.1 * m["ara"]
    np.testing.assert_allclose(m["total"], expected, rtol=1e-6)


def test_a_batch_of_one_person_trains_without_nan(tiny_config):
    state, step, batch = build(tiny_config, optax.sgd(0.1))
    batch = batch | {"pid": np.zeros_like(batch["pid"])}
    batch["phrase_ids"] = np.zeros_like(batch["phrase_ids"])
    state, metrics = step(state, batch, jax.random.key(0))
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert float(metrics["ara"]) == 0.0
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.params))


def test_the_padding_embedding_is_never_trained(tiny_config):
    tiny_config.atp.group_pool = "all"  # the pooled padding would otherwise move it
    tiny_config.loss.ara_weight = 0.0
    state, step, batch = build(tiny_config, optax.sgd(1.0))
    before = np.array(state.params["text_encoder"]["word_embed"]["embedding"])
    state, _ = step(state, batch, jax.random.key(0))
    after = np.array(state.params["text_encoder"]["word_embed"]["embedding"])
    assert np.array_equal(before[0], after[0])
    assert not np.array_equal(before[150], after[150])


def test_operations_are_ordered_for_memory(tiny_config, monkeypatch):
    """Of a network whose layers are all in the loop, as at full size."""
    tiny_config.model.text.depth = FEW_LAYERS + 1
    for part in (tiny_config.model.image, tiny_config.model.text):
        part.width, part.mlp_dim = 256, 1024

    def temporary_bytes():
        state, step, batch = build(tiny_config, optax.adam(1e-3))
        compiled = step.lower(state, batch, jax.random.key(0)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    ours = temporary_bytes()
    monkeypatch.setattr(train_step, "compiler_options", lambda *_: {})
    assert ours < 0.95 * temporary_bytes()
