"""Padding is cut where nothing reads it, and what is computed stays what it was."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cada_jax.models.cada import from_config, init_params
from cada_jax.objective import objective
from cada_jax.text import padding
from tests.distributed.test_sharding import batch_for


def test_rounded_lengths():
    ids = np.array([[5, 6, 0, 0, 0], [5, 6, 7, 0, 0], [5, 0, 7, 0, 0], [5] * 5, [0] * 5])
    assert padding.rounded_lengths(ids, 0, 1).tolist() == [2, 3, 3, 5, 1]
    assert padding.rounded_lengths(ids, 0, 2).tolist() == [2, 4, 4, 5, 2]
    assert padding.rounded_lengths(ids, 0, 16).tolist() == [5] * 5


CAPTIONS = arrays.arrays(
    np.int32, st.tuples(st.integers(1, 6), st.integers(1, 40)), elements=st.integers(0, 3)
)


@given(ids=CAPTIONS, pad=st.integers(0, 3), step=st.integers(1, 50))
def test_what_is_kept_of_a_caption_is_all_of_it_and_little_more(ids, pad, step):
    lengths = padding.rounded_lengths(ids, pad, step)
    assert lengths.shape == ids.shape[:1]
    for row, length in zip(ids, lengths.tolist(), strict=True):
        assert (row[length:] == pad).all()
        assert 1 <= length <= len(row) and (length % step == 0 or length == len(row))
        real = max(np.flatnonzero(row != pad), default=0) + 1
        assert length - real < step


@given(ids=CAPTIONS, length=st.integers(1, 50))
def test_cutting_a_batch_cuts_its_captions_alone(ids, length):
    rows = len(ids)
    batch = {
        "token_ids": ids,
        "phrase_ids": ids + 1,
        "attribute_mask": ids > 1,
        "image": np.zeros((rows, 2, ids.shape[1], 3), np.uint8),
        "pid": np.arange(rows, dtype=np.int32),
    }
    cut = padding.cut_batch(batch, length)
    assert cut.keys() == batch.keys()
    for name, array in batch.items():
        is_caption = name in ("token_ids", "phrase_ids", "attribute_mask")
        np.testing.assert_array_equal(cut[name], array[:, :length] if is_caption else array)
        assert cut[name].dtype == array.dtype


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
