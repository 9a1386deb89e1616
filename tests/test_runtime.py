"""What a run asks of the compiler."""

import types

import jax
import numpy as np
import pytest

from cada_jax import optimizer, runtime, sharding, train_step
from cada_jax.models import cada
from tests.test_sharding import batch_for


def test_a_step_is_ordered_for_memory(tiny_config, monkeypatch):
    for part in (tiny_config.model.image, tiny_config.model.text):
        part.width, part.mlp_dim = 256, 1024

    def temporary_bytes():
        mesh = sharding.make_mesh(tiny_config.mesh, jax.devices()[:1])
        model, tx = cada.from_config(tiny_config), optimizer.make_optimizer(tiny_config, 10)
        state = jax.eval_shape(lambda: train_step.init_state(model, tx, tiny_config, mesh))
        step = train_step.make_train_step(model, tx, tiny_config, mesh)
        compiled = step.lower(state, batch_for(tiny_config), jax.random.key(0)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    ours = temporary_bytes()
    monkeypatch.setattr(runtime, "compiler_options", lambda mesh: {})
    assert ours < 0.95 * temporary_bytes()


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_other_compilers_are_not_given_what_they_refuse(platform):
    device = types.SimpleNamespace(platform=platform)
    mesh = types.SimpleNamespace(devices=np.full((1, 1, 1), device))
    assert runtime.compiler_options(mesh) == {}
