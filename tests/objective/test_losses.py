"""Properties of the losses, and hand-computed values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.objective import losses


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


def test_unknown_or_keyless_negatives_are_refused():
    image, text = features()
    with pytest.raises(ValueError, match=r"config\.atp\.negatives is 'easy'"):
        losses.choose_negatives(image, text, np.arange(8), "easy")
    with pytest.raises(ValueError, match="key"):
        losses.choose_negatives(image, text, np.arange(8), "sampled")


def test_match_loss_leaves_rows_of_weight_zero_out():
    logits = jnp.array([[0.0, 2.0], [50.0, -50.0], [1.0, 0.0]])
    labels = jnp.array([1, 1, 0])
    value = losses.match_loss(logits, labels, jnp.array([1.0, 0.0, 1.0]))
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
    masked = jnp.asarray(rng.random((5, 9)) < rate).at[2].set(False)

    def plain(decoded, head):
        log_p = jax.nn.log_softmax(decoded @ head)
        picked = jnp.take_along_axis(log_p, token_ids[:, :, None], axis=2)[..., 0]
        right = (jnp.argmax(log_p, axis=2) == token_ids) & masked
        count = jnp.maximum(masked.sum(), 1)
        return -jnp.sum(picked * masked) / count, right.sum() / count

    def ours(decoded, head):
        return losses.masked_word_loss(lambda x: x @ head, decoded, token_ids, masked, chunk)

    wanted, got = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))(decoded, head)
        for f in (plain, ours)
    )
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert (float(got[0][0]) == 0.0) == (rate == 0.0)


def test_masked_word_loss_makes_no_logits_for_every_position():
    """The vocabulary's product is over a chunk of positions, forward and backward."""
    decoded, head = jnp.zeros((2, 64, 4)), jnp.zeros((4, 999))
    ids, masked = jnp.zeros((2, 64), jnp.int32), jnp.ones((2, 64), bool)

    def loss(decoded):
        return losses.masked_word_loss(lambda x: x @ head, decoded, ids, masked, 8)[0]

    text = jax.jit(jax.grad(loss)).lower(decoded).as_text()
    assert "2x8x999xf32" in text and "x64x999xf32" not in text


def test_masked_word_loss_keeps_one_copy_of_the_vocabulary():
    """What all chunks read alike is not kept once for each of them until the backward pass."""
    decoded, head = jnp.zeros((2, 64, 4)), jnp.zeros((4, 999))
    ids, masked = jnp.zeros((2, 64), jnp.int32), jnp.ones((2, 64), bool)

    def loss(decoded, head):
        return losses.masked_word_loss(lambda x: x @ head, decoded, ids, masked, 8)[0]

    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(decoded, head).as_text()
    assert "tensor<4x999xf32>" in text and "tensor<8x4x999xf32>" not in text
