"""Properties of the losses, and hand-computed values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.objective import losses
from cada_jax.objective.row_loss import normalized_weights


def features(rows=8, width=6, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((rows, width), np.float32)
    text = image + 0.5 * rng.standard_normal((rows, width), np.float32)
    return image, text.astype(np.float32)


def test_ndf_does_not_depend_on_the_order_of_the_batch():
    image, text = features()
    pids = np.array([0, 1, 0, 2, 3, 3, 3, 4])
    order = np.random.default_rng(1).permutation(8)
    np.testing.assert_allclose(
        losses.ndf(image, text, pids),
        losses.ndf(image[order], text[order], pids[order]),
        rtol=1e-5,
    )


def test_ndf_ignores_the_length_of_features_and_is_symmetric_in_the_sides():
    image, text = features()
    pids = np.arange(8)
    value = losses.ndf(image, text, pids)
    np.testing.assert_allclose(value, losses.ndf(3 * image, text / 7, pids), rtol=1e-4)
    np.testing.assert_allclose(value, losses.ndf(text, image, pids), rtol=1e-5)


def test_ndf_by_hand_for_two_orthogonal_pairs():
    eye = np.eye(2, dtype=np.float32)
    # P = softmax([1, 0]) = (p, 1-p), Q = (1, 0): the symmetric divergence of one row is
    # p log p + (1-p) (log(1-p) - log 1e-8) - log p, its cross-entropy -log p.
    p = np.e / (1 + np.e)
    divergence = p * np.log(p) + (1 - p) * (np.log(1 - p) - np.log(1e-8)) - np.log(p)
    expected = divergence / 2 - np.log(p)
    value = losses.ndf(eye, eye, np.array([0, 1]), scale=1.0)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_ndf_has_a_finite_gradient_at_zero_features():
    image, text = features()
    image[0] = 0.0
    grad = jax.grad(losses.ndf)(jnp.asarray(image), text, np.arange(8))
    assert np.all(np.isfinite(grad))


@pytest.mark.parametrize("method", ["hardest", "sampled"])
def test_negatives_never_share_the_person(method):
    pids = np.array([0, 0, 1, 2, 2, 2, 3, 0])
    for seed in range(20):
        image, text = features(seed=seed)
        # Positives are by far the most similar: only the mask keeps them out.
        chosen = losses.choose_negatives(
            20 * image, 20 * text, pids, method, key=jax.random.key(seed)
        )
        assert np.all(pids[chosen.image_for_text] != pids)
        assert np.all(pids[chosen.text_for_image] != pids)
        assert np.all(chosen.weight == 1)


def test_hardest_negatives_are_the_largest_unnormalised_products():
    image, text = features()
    image[5] *= 100  # only un-normalised products see this
    pids = np.arange(8)
    chosen = losses.choose_negatives(image, text, pids)
    scores = text @ image.T
    np.fill_diagonal(scores, -np.inf)
    np.testing.assert_array_equal(chosen.image_for_text, scores.argmax(1))
    scores = image @ text.T
    np.fill_diagonal(scores, -np.inf)
    np.testing.assert_array_equal(chosen.text_for_image, scores.argmax(1))


def test_underflow_takes_the_largest_float32_weight_or_row_0():
    """Against NumPy, whose float32 keeps subnormal numbers and loses what is smaller."""
    rng = np.random.default_rng(0)
    pids, rows = rng.integers(0, 20, 48), np.arange(48)
    lost = subnormal = 0
    for scale in (0.3, 0.9, 1.1, 1.6, 2.5):  # from no row that underflows to nearly all
        image = scale * (rng.standard_normal((48, 12)) + rng.standard_normal((1, 12)))
        text = image + 0.3 * scale * rng.standard_normal((48, 12))
        image, text = image.astype(np.float32), text.astype(np.float32)
        chosen = jax.jit(losses.choose_negatives, static_argnums=3)(image, text, pids, "underflow")
        for scores, got in (
            (text @ image.T, chosen.image_for_text),
            (image @ text.T, chosen.text_for_image),
        ):
            logits = scores / np.float32(0.07)
            exps = np.exp(logits - logits.max(axis=1, keepdims=True))
            weights = exps / exps.sum(axis=1, keepdims=True)
            weights[pids[:, None] == pids] = 0
            best = weights.max(axis=1)
            lost += (best == 0).sum()
            subnormal += ((best > 0) & (best < np.finfo(np.float32).tiny)).sum()
            np.testing.assert_array_equal(got, weights.argmax(axis=1))
        assert np.all(chosen.weight == 1)
    assert lost > len(rows) and subnormal > 10


def test_sampled_negatives_follow_the_softmax_of_the_cosine():
    angle = np.array([0.0, 0.3, 0.5, 3.0])
    unit = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    draw = jax.vmap(
        lambda key: losses.choose_negatives(
            5 * unit, 3 * unit, np.arange(4), "sampled", 0.5, key
        ).image_for_text[0]
    )
    drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
    weights = np.exp((unit[1:] @ unit[0]) / 0.5)
    frequencies = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(frequencies[1:], weights / weights.sum(), atol=0.03)


def test_a_batch_of_one_person_has_no_negatives_and_a_finite_loss():
    image, text = features()
    for method in ("hardest", "sampled"):
        chosen = losses.choose_negatives(
            image, text, np.zeros(8, int), method, key=jax.random.key(0)
        )
        assert np.all(chosen.weight == 0)


def test_negatives_carry_no_gradient():
    image, text = features()

    def value(image):
        chosen = losses.choose_negatives(image, text, np.arange(8))
        return jnp.sum(chosen.image_for_text.astype(jnp.float32)) + jnp.sum(chosen.weight)

    assert np.all(np.asarray(jax.grad(value)(jnp.asarray(image))) == 0)


def test_match_loss_leaves_rows_of_weight_zero_out():
    logits = jnp.array([[0.0, 2.0], [50.0, -50.0], [1.0, 0.0]])
    labels = jnp.array([1, 1, 0])
    value = losses.match_loss(logits, labels, normalized_weights(jnp.array([1.0, 0.0, 1.0])))
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0))) / 2
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 4, 9])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_masked_word_loss_equals_logits_at_every_position(chunk, rate):
    """Value, accuracy and gradients, whatever the chunk and however many are masked."""
    rng = np.random.default_rng(0)
    decoded = jnp.asarray(rng.normal(size=(5, 9, 6)), jnp.float32)
    head = jnp.asarray(rng.normal(size=(6, 11)), jnp.float32)
    token_ids = jnp.asarray(rng.integers(0, 11, (5, 9)))
    counted = (rng.random((5, 9)) < rate) & (np.arange(5) != 2)[:, None]
    masked = jnp.asarray(counted)

    def plain(decoded, head):
        log_p = jax.nn.log_softmax(decoded @ head)
        picked = jnp.take_along_axis(log_p, token_ids[:, :, None], axis=2)[..., 0]
        right = (jnp.argmax(log_p, axis=2) == token_ids) & masked
        count = jnp.maximum(masked.sum(), 1)
        return -jnp.sum(picked * masked) / count, right.sum() / count

    def ours(decoded, head):
        weights = jnp.full(5, 1 / max(1, int(np.sum(counted))))
        return losses.masked_word_loss(
            lambda x: x @ head, decoded, token_ids, masked, weights, chunk
        )

    wanted, got = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))(decoded, head)
        for f in (plain, ours)
    )
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert (float(got[0][0]) == 0.0) == (rate == 0.0)


def test_masked_word_loss_holds_the_logits_of_one_chunk_and_one_copy_of_the_vocabulary():
    """Forward and backward: 16 of 128 rows' logits, and the vocabulary with its gradient."""
    words, width = 20_000, 16
    decoded, head = jnp.zeros((2, 64, width)), jnp.zeros((width, words))
    ids, masked = jnp.zeros((2, 64), jnp.int32), jnp.ones((2, 64), bool)

    def loss(decoded, head):
        return losses.masked_word_loss(lambda x: x @ head, decoded, ids, masked, jnp.ones(2), 8)[0]

    program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(decoded, head).compile()
    assert program.memory_analysis().temp_size_in_bytes < 4 * words * 2 * 64
