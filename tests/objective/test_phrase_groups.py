"""Groups of tokens that are attribute phrases."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.models.cada import from_config, init_params
from cada_jax.objective import association, losses, phrase_groups

phrase_means = jax.jit(phrase_groups.phrase_means)  # compiled once for each shape
ids_of_captions = st.lists(
    st.lists(st.integers(0, 6), min_size=7, max_size=7), min_size=2, max_size=2
)


@given(ids=ids_of_captions, seed=st.integers(0, 99))
def test_means_are_those_of_a_plain_loop(ids, seed):
    ids = np.asarray(ids, np.int32)
    values = np.random.default_rng(seed).standard_normal((*ids.shape, 3), np.float32)
    means, weights = phrase_means(values, ids)
    for row in range(len(ids)):
        for phrase in range(7):
            inside = values[row][ids[row] == phrase] if phrase else []
            assert weights[row, phrase] == (len(inside) > 0)
            expected = np.mean(inside, axis=0) if len(inside) else np.zeros(3)
            np.testing.assert_allclose(means[row, phrase], expected, atol=1e-6)


def test_tokens_of_no_phrase_and_padding_change_nothing():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, 6, 3)).astype(np.float32)
    ids = np.array([[0, 1, 1, 0, 2, 0], [0, 0, 0, 0, 0, 0]], np.int32)
    noise = np.where(ids[..., None] == 0, rng.standard_normal(values.shape), 0).astype(np.float32)
    means, weights = phrase_means(values, ids)
    np.testing.assert_array_equal(phrase_means(values + noise, ids)[0], means)
    assert not np.any(weights[1]) and not np.any(means[1])
    longer = np.pad(values, ((0, 0), (0, 3), (0, 0))), np.pad(ids, ((0, 0), (0, 3)))
    padded, more = phrase_means(*longer)
    np.testing.assert_array_equal(padded[:, :6], means)
    np.testing.assert_array_equal(more, np.pad(weights, ((0, 0), (0, 3))))


def test_as_many_phrases_as_a_caption_can_hold_are_all_read():
    ids = np.array([[0, *range(1, 12), 0]], np.int32)
    _, weights = phrase_means(np.ones((1, 13, 1), np.float32), ids)
    np.testing.assert_array_equal(weights, [[0] + [1] * 11 + [0]])


def test_the_mean_of_token_logits_is_the_head_on_the_mean_state(tiny_config):
    tiny_config.atp.groups = "phrases"
    model = from_config(tiny_config)
    params = jax.jit(lambda key: init_params(model, tiny_config, key))(jax.random.key(0))
    params["itm_local_head"]["bias"] = jnp.array([0.3, -0.4])
    rng = np.random.default_rng(0)
    decoded = rng.standard_normal((3, 21, 32)).astype(np.float32)
    ids = np.zeros((3, 21), np.int32)
    ids[0, 2:5], ids[0, 6], ids[1, 1:20] = 1, 2, 1
    texts = association.Texts(jnp.ones((3, 21), jnp.int32), jnp.ones(3), jnp.asarray(ids))
    logits, weights = association.match_groups(model, params, decoded, texts)
    head = params["itm_local_head"]
    for row, phrase in ((0, 1), (0, 2), (1, 1)):
        state = decoded[row][ids[row] == phrase].mean(axis=0)
        expected = state @ head["kernel"] + head["bias"]
        np.testing.assert_allclose(logits[row, phrase], expected, rtol=1e-4, atol=1e-6)
    assert weights.sum() == 3


def test_phrases_go_with_the_text_that_is_decoded():
    token_ids = np.arange(12, dtype=np.int32).reshape(4, 3)
    negatives = losses.Negatives(*map(jnp.array, ([1, 0, 3, 2], [2, 3, 0, 1], [1.0, 1, 1, 0])))
    texts = association.pairs_to_match(token_ids, negatives, 100 + token_ids)
    np.testing.assert_array_equal(texts.phrase_ids, 100 + texts.token_ids)
    np.testing.assert_array_equal(texts.token_ids[2::3], token_ids[[2, 3, 0, 1]])
    assert association.pairs_to_match(token_ids, negatives).phrase_ids is None
