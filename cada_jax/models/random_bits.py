"""Random bits that are a function of (key, row, place): computed where they are read, never stored.

JAX's threefry makes good bits and many of them in advance: on a TPU the masks of a training step's
dropout took longer to draw than the layers' norms take, and the backward pass read them back from
memory. Here every bit is a hash of its place, so the backward pass computes the mask again, a
kernel computes it inside, and a row draws the same whatever device or chunk of a batch it is in.

Not for cryptography, and not the numbers of `jax.random`: they serve dropout on a TPU alone. A test
counts means, correlations of neighbours, of rows and of keys.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cada_jax.common.shapes import AnyArray, Array, Int, Int32, PRNGKeyArray

# Multipliers of the integer hash "lowbias32" (C. Wellons, 2018), found by a search for low bias.
_FIRST, _SECOND = (np.uint32(m).view(np.int32) for m in (0x7FEB352D, 0x846CA68B))
# 2 ** 32 divided by the golden ratio: consecutive rows start far apart.
_ROW = np.uint32(0x9E3779B9).view(np.int32)
HALF = 16  # bits that decide about one number: probabilities are rounded to 2 ** -16


def _fold(x: Int[AnyArray, "*axes"], bits: int) -> Int32[Array, "*axes"]:
    return jnp.bitwise_xor(x, jax.lax.shift_right_logical(x, jnp.int32(bits)))


def hashed(
    place: Int[AnyArray, "..."], first: Int[AnyArray, "..."], second: Int[AnyArray, "..."]
) -> Int32[Array, "..."]:
    """32 bits for every place, by two words of key: int32 all, broadcast against each other.

    The second word enters between the rounds: two rows whose first words lie close together would
    otherwise draw the same sequence, shifted.
    """
    x = _fold(place ^ first, 16) * _FIRST
    x = _fold(x ^ second, 15) * _SECOND
    return _fold(x, 16)


def row_keys(key: PRNGKeyArray, rows: Int[AnyArray, "M"]) -> Int32[Array, "M 2"]:
    """Two words of key for each row, int32 [M,2].

    Args:
      key: of JAX.
      rows: int32 [M], numbers of rows in the whole batch.
    """
    words = jax.lax.bitcast_convert_type(jax.random.key_data(key).reshape(-1)[:2], jnp.int32)
    rows = rows.astype(jnp.int32) * _ROW
    first = hashed(rows, words[0], words[1])
    return jnp.stack([first, hashed(rows ^ first, words[1], words[0])], axis=-1)


def threshold(rate: float) -> int:
    """The number of 16 bits below which a draw means "drop": `rate` in [0,1) of 2 ** 16.

    Raises:
      ValueError: the rate is not in [0,1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"a dropout rate is {rate}; expected 0 <= rate < 1")
    return min(round(rate * 2**HALF), 2**HALF - 1)


def keep_scale(rate: float) -> float:
    """What kept numbers are multiplied by, 1 / (1 - the rate as `threshold` rounds it)."""
    return 1.0 / (1.0 - threshold(rate) / 2**HALF)


def kept(bits: Int[AnyArray, "*axes"], rate: float, half: int = 0):
    """Bool [...]: whether the low (`half` 0) or high (1) 16 of `bits` keep their number."""
    draw = jax.lax.shift_right_logical(bits, jnp.int32(HALF)) if half else bits & (2**HALF - 1)
    return draw >= threshold(rate)
