"""Optimal transport between the words and the patches of a pair: `loss.alignment=quota_transport`.

Source: QC-Align (CVPR 2026), as METHOD states it. Arrays in, losses out: no model, no config.
README.md beside this file says what its authors leave open and what was chosen here.

B pairs, M words, N patches, E width of the shared embedding.
"""

import jax
import jax.numpy as jnp

from cada_jax.common.shapes import AnyArray, Array, Bool, Float32
from cada_jax.models.layers import l2_normalize

# Sinkhorn's updates of both sides. At epsilon 0.5 the marginals of a trained model's tokens are
# right to 1e-6 after three, those of tokens that all agree or oppose to 1e-3 after ten.
ITERATIONS = 10
LEAKY_SLOPE = 0.01
# Logarithm of no mass. Finite: the gradient of -inf would be NaN.
NO_MASS = -1e9


def quota_transport(
    words: Float32[AnyArray, "B M E"],
    patches: Float32[AnyArray, "B N E"],
    is_word: Bool[AnyArray, "B M"],
    epsilon: float = 0.5,
) -> Float32[Array, "B"]:
    """How far the words of each pair are from its patches, by a debiased transport cost.

    W(words, patches) - (W(words, words) + W(patches, patches)) / 2, with W of `transport_cost` and
    costs 1 - cosine. The first has the marginals of `quotas`, the others uniform ones.

    Words and patches are projected, not normalised. What is no word, padding and special tokens,
    changes nothing. `epsilon` > 0 weighs the plan's entropy. The loss of a caption without a word
    has no meaning.
    """
    # A caption without a word gets one, so that its numbers are finite.
    first = (jnp.arange(is_word.shape[1]) == 0)[None]
    is_word = is_word | (first & ~jnp.any(is_word, axis=1, keepdims=True))
    is_patch = jnp.ones(patches.shape[:2], bool)
    words, patches = l2_normalize(words), l2_normalize(patches)
    of_words = quotas(patches, words, gives=is_patch, takes=is_word)
    of_patches = quotas(words, patches, gives=is_word, takes=is_patch)
    between = transport_cost(_costs(words, patches), of_words, of_patches, epsilon)
    within = sum(
        transport_cost(_costs(x, x), uniform(real), uniform(real), epsilon)
        for x, real in ((words, is_word), (patches, is_patch))
    )
    return between - within / 2


def quotas(
    givers: Float32[AnyArray, "B M E"],
    takers: Float32[AnyArray, "B N E"],
    gives: Bool[AnyArray, "B M"],
    takes: Bool[AnyArray, "B N"],
) -> Float32[Array, "B N"]:
    """The mass that each taker gets from the givers, as a logarithm.

    A giver shares its mass among the takers by softmax(leaky ReLU(cosine)). Its mass is the
    softmax, over the givers, of its cosine with the takers that it chose, their mean by its shares.
    Both have length 1. `gives` and `takes` say who counts, one at least in each row.

    Returns:
      Logarithms of masses that sum to 1; `NO_MASS` for takers that do not count.
    """
    cosine = jax.nn.leaky_relu(_cosines(givers, takers), LEAKY_SLOPE)
    shares = jax.nn.softmax(jnp.where(takes[:, None, :], cosine, NO_MASS), axis=2)
    chosen = l2_normalize(jnp.einsum("bmn,bne->bme", shares, takers))
    agreement = jnp.sum(givers * chosen, axis=2)
    mass = jax.nn.softmax(jnp.where(gives, agreement, NO_MASS), axis=1)
    taken = jnp.einsum("bm,bmn->bn", mass, shares)
    return jnp.where(takes, jnp.log(jnp.where(takes, taken, 1.0)), NO_MASS)


def uniform(counts: Bool[AnyArray, "B M"]) -> Float32[Array, "B M"]:
    """Logarithm of equal masses that sum to 1 in each row; `NO_MASS` where bool [B,M] is False."""
    number = jnp.sum(counts, axis=1, keepdims=True).astype(jnp.float32)
    return jnp.where(counts, -jnp.log(number), NO_MASS)


def transport_plan(
    cost: Float32[AnyArray, "B M N"],
    of_rows: Float32[AnyArray, "B M"],
    of_columns: Float32[AnyArray, "B N"],
    epsilon: float,
    iterations: int = ITERATIONS,
) -> Float32[Array, "B M N"]:
    """The plan of least cost - epsilon * entropy that has these marginals, by Sinkhorn.

    A fixed number of updates in the log domain; the backward pass goes through all of them and
    keeps what an update starts from, [B,M+N], not its [B,M,N] numbers.
    The marginals are logarithms of masses that sum to 1; `epsilon` > 0. The plan's columns have
    exactly their sums, its rows come as near as the iterations bring them.
    """
    kernel = -cost / epsilon

    @jax.checkpoint
    def update(columns, _):
        rows = of_rows - jax.nn.logsumexp(kernel + columns[:, None, :], axis=2)
        columns = of_columns - jax.nn.logsumexp(kernel + rows[:, :, None], axis=1)
        return columns, rows

    # Not zeros: columns without mass would be read by the first update.
    columns, rows = jax.lax.scan(update, of_columns, length=iterations)
    return jnp.exp(kernel + rows[-1][:, :, None] + columns[:, None, :])


def transport_cost(
    cost: Float32[AnyArray, "B M N"],
    of_rows: Float32[AnyArray, "B M"],
    of_columns: Float32[AnyArray, "B N"],
    epsilon: float,
    iterations: int = ITERATIONS,
) -> Float32[Array, "B"]:
    """What `transport_plan` moves at what cost, without the entropy: float32 [B]."""
    plan = transport_plan(cost, of_rows, of_columns, epsilon, iterations)
    return jnp.sum(plan * cost, axis=(1, 2))


def _cosines(
    a: Float32[AnyArray, "B M E"], b: Float32[AnyArray, "B N E"]
) -> Float32[Array, "B M N"]:
    return jnp.einsum("bme,bne->bmn", a, b)


def _costs(a: Float32[AnyArray, "B M E"], b: Float32[AnyArray, "B N E"]) -> Float32[Array, "B M N"]:
    return 1.0 - _cosines(a, b)
