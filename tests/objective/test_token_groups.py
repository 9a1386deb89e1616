"""Groups of tokens: equal parts of a caption, or its attribute phrases."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.models import cada
from cada_jax.objective import atp, losses, token_groups

group_means = jax.jit(token_groups.group_means, static_argnums=2)  # compiled once a shape
ids_of_captions = st.lists(
    st.lists(st.integers(0, 6), min_size=7, max_size=7), min_size=2, max_size=2
)


@given(ids=ids_of_captions, seed=st.integers(0, 99))
def test_means_are_those_of_a_plain_loop(ids, seed):
    ids = np.asarray(ids, np.int32)
    values = np.random.default_rng(seed).standard_normal((*ids.shape, 3), np.float32)
    means = group_means(values, ids, 7)
    for row in range(len(ids)):
        for group in range(1, 7):
            inside = values[row][ids[row] == group]
            expected = np.mean(inside, axis=0) if len(inside) else np.zeros(3)
            np.testing.assert_allclose(means[row, group], expected, atol=1e-6)


def test_equal_parts_hold_real_tokens_only_when_asked(tiny_config):
    ids = np.zeros((3, 21), np.int32)
    for row, count in enumerate((9, 14, 21)):
        ids[row, :count] = 150
        ids[row, 0], ids[row, count - 1] = 101, 102
    everything = np.repeat([0, 1, 2], [1, 10, 10])
    tiny_config.atp.group_pool = "all"
    groups, number = token_groups.group_ids(tiny_config, {"token_ids": ids})
    assert number == 3
    np.testing.assert_array_equal(groups, np.broadcast_to(everything, ids.shape))
    tiny_config.atp.group_pool = "valid"
    groups, _ = token_groups.group_ids(tiny_config, {"token_ids": ids})
    np.testing.assert_array_equal(groups, np.where((ids > 0) & (ids != 102), everything, 0))
    cut, _ = token_groups.group_ids(tiny_config, {"token_ids": ids[:, :14]})
    np.testing.assert_array_equal(cut, groups[:, :14])


def test_the_mean_of_token_logits_is_the_head_on_the_mean_state(tiny_config):
    model = cada.from_config(tiny_config)
    params = jax.jit(lambda key: cada.init_params(model, tiny_config, key))(jax.random.key(0))
    params["itm_local_head"]["bias"] = jnp.array([0.3, -0.4])
    decoded = np.random.default_rng(0).standard_normal((3, 21, 32)).astype(np.float32)
    ids = np.zeros((3, 21), np.int32)
    ids[0, 2:5], ids[0, 6], ids[1, 1:20] = 1, 2, 1
    of_tokens = cada.apply(model, params, "match_tokens", decoded)
    logits, head = group_means(of_tokens, ids, 3), params["itm_local_head"]
    for row, group in ((0, 1), (0, 2), (1, 1)):
        state = decoded[row][ids[row] == group].mean(axis=0)
        expected = state @ head["kernel"] + head["bias"]
        np.testing.assert_allclose(logits[row, group], expected, rtol=1e-4, atol=1e-6)


def test_weights_sum_to_one_and_groups_go_with_the_text_that_is_decoded(tiny_config):
    tiny_config.atp.groups = "phrases"
    token_ids = np.arange(12, dtype=np.int32).reshape(4, 3)
    phrase_ids = np.array([[0, 1, 1], [0, 0, 0], [0, 1, 2], [0, 0, 1]], np.int32)
    negatives = losses.Negatives(*map(jnp.array, ([1, 0, 3, 2], [2, 3, 0, 1], [1.0, 1, 1, 0])))
    batch = {"token_ids": token_ids, "phrase_ids": phrase_ids}
    pairs = atp.pairs_to_match(tiny_config, batch, jnp.zeros((4, 5, 2)), negatives, None, True)
    np.testing.assert_array_equal(pairs.token_ids[:, 2], token_ids[[2, 3, 0, 1]])
    np.testing.assert_array_equal(pairs.group_ids[:, 2], phrase_ids[[2, 3, 0, 1]])
    np.testing.assert_array_equal(pairs.image_index, [[0, 1, 0]] * 4)
    for weights in (pairs.match_weights, pairs.group_weights):
        np.testing.assert_allclose(jnp.sum(weights), 1.0, rtol=1e-6)
    assert not np.any(pairs.match_weights[3, 1:]) and not np.any(pairs.group_weights[3, 1:])
    assert not np.any(pairs.group_weights[:, :, 0]) and not np.any(pairs.group_weights[1, 0])
