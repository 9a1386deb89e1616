"""Padding is cut where nothing reads it, and what is computed stays what it was."""

import jax
import numpy as np
import pytest

from cada_jax.models.cada import from_config, init_params
from cada_jax.objective import objective
from cada_jax.text import padding
from tests.distributed.test_sharding import batch_for


def test_rounded_lengths():
    ids = np.array([[5, 6, 0, 0, 0], [5, 6, 7, 0, 0], [5, 0, 7, 0, 0], [5] * 5, [0] * 5])
    assert padding.rounded_lengths(ids, 0, 1).tolist() == [2, 3, 3, 5, 1]
    assert padding.rounded_lengths(ids, 0, 2).tolist() == [2, 4, 4, 5, 2]
    assert padding.rounded_lengths(ids, 0, 16).tolist() == [5] * 5


@pytest.mark.parametrize("pool", ["valid", "all"])
def test_a_cut_batch_has_the_same_losses_and_gradients(tiny_config, pool):
    tiny_config.atp.group_pool = pool
    tiny_config.ara.phrase_rate = 1.0  # every phrase: nothing is drawn
    batch = batch_for(tiny_config)
    rng = np.random.default_rng(0)
    batch["image"] = rng.standard_normal(batch["image"].shape, np.float32)
    batch["token_ids"][:, 12:] = 0  # room to cut 21 to 16
    batch["phrase_ids"][:, 12:] = 0
    cut = padding.cut_batch(batch, padding.batch_length(batch["token_ids"], tiny_config))
    shapes = {cut[name].shape[1] for name in ("token_ids", "phrase_ids", "attribute_mask")}
    assert shapes == ({21} if pool == "all" else {16})
    assert cut["image"] is batch["image"]
    if pool == "all":
        return
    model = from_config(tiny_config)
    init = jax.jit(lambda key: init_params(model, tiny_config, key))
    params = init(jax.random.key(0))

    @jax.jit
    def run(params, batch):
        def loss(params):
            return objective.loss_terms(model, tiny_config, params, batch, jax.random.key(1))

        return jax.value_and_grad(loss, has_aux=True)(params)

    whole, short = run(params, batch), run(params, cut)
    assert jax.tree.structure(whole) == jax.tree.structure(short)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(short), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(b).max()))
