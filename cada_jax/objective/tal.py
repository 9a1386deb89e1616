"""TAL, the triplet alignment loss: `loss.global=tal` in place of NDF."""

import jax
import jax.numpy as jnp

from cada_jax.common.shapes import AnyArray, Array, Bool, Float32, Int
from cada_jax.models.layers import l2_normalize


def tal(
    image_features: Float32[AnyArray, "B E"],
    text_features: Float32[AnyArray, "B E"],
    pids: Int[AnyArray, "B"],
    margin: float = 0.1,
    temperature: float = 0.015,
) -> Float32[Array, ""]:
    """Hinge between a row's own person and a soft maximum over all others.

    Source: RDE (Qin et al., CVPR 2024), which made it to bear wrong pairs. Of a row i, with S the
    cosines and t the temperature:

        max(0, margin - S+_i + t log sum_{j of other persons} exp(S_ij / t)),

    where S+_i is the mean of the own person's S_ij, weighed by their softmax(S_ij / t). Both
    directions are added, rows averaged. A row without another person in the batch counts 0.
    Features are not normalised; `margin` is a difference of cosines, >= 0; `temperature` > 0.
    """
    similarity = l2_normalize(image_features) @ l2_normalize(text_features).T
    same = pids[:, None] == pids[None, :]
    rows = _hinges(similarity, same, margin, temperature)
    return jnp.mean(rows + _hinges(similarity.T, same, margin, temperature))


def _hinges(
    similarity: Float32[Array, "B B"],
    same: Bool[AnyArray, "B B"],
    margin: float,
    temperature: float,
) -> Float32[Array, "B"]:
    """One direction, row by row."""
    scaled = similarity / temperature
    # Held constant: through the weights, the gradient would push a person's less similar rows
    # away, for their share of the mean would fall with them.
    weights = jax.lax.stop_gradient(jax.nn.softmax(jnp.where(same, scaled, -1e9), axis=-1))
    own = jnp.sum(weights * similarity, axis=-1)
    # -1e9, not -inf: the gradient of a row that is masked everywhere would be NaN.
    other = temperature * jax.nn.logsumexp(jnp.where(same, -1e9, scaled), axis=-1)
    return jax.nn.relu(margin - own + other)
