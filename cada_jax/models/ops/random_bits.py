"""Random bits as a function of (seed, row, place): computed where they are read, never stored.

JAX's threefry makes good bits and many of them in advance: on a TPU the masks of a training step's
dropout took longer to draw than the layers' norms take, and the backward pass read them back from
memory. Here every bit is a hash of its place, so the backward pass computes the mask again, a
kernel computes it inside, and a row draws the same on every platform, whatever device or chunk of a
batch it is in.

Not for cryptography, and not the numbers of `jax.random`: they serve dropout and drop path alone. A
test counts means, correlations of neighbours, of rows and of keys.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cada_jax.common.shapes import AnyArray, Array, Int, Int32, PRNGKeyArray

# Multipliers of the integer hash "lowbias32" (C. Wellons, 2018), found by a search for low bias.
_FIRST, _SECOND = (np.uint32(m).view(np.int32) for m in (0x7FEB352D, 0x846CA68B))
# 2 ** 32 divided by the golden ratio: consecutive rows start far apart.
_ROW = np.uint32(0x9E3779B9).view(np.int32)
HALF = 16  # bits that decide about one number: probabilities are rounded to 2 ** -16


class Draw(NamedTuple):
    """What is dropped.

    seeds: int32 [M,2] of `row_seeds`; rate: with which probability; place: the number by which the
    seeds are folded, of what draws.
    """

    seeds: Int[AnyArray, "M 2"]
    rate: float
    place: Int[AnyArray, ""] | int

    @property
    def own_seeds(self) -> Int32[Array, "M 2"]:
        """Seeds of the place, int32 [M,2]."""
        return fold(self.seeds, self.place)


def _fold(x: Int[AnyArray, "*axes"], bits: int) -> Int32[Array, "*axes"]:
    return jnp.bitwise_xor(x, jax.lax.shift_right_logical(x, jnp.int32(bits)))


def hashed(
    place: Int[AnyArray, "..."], first: Int[AnyArray, "..."], second: Int[AnyArray, "..."]
) -> Int32[Array, "..."]:
    """32 bits for every place, by two words of seed: int32 all, broadcast against each other.

    The second word enters between the rounds: two rows whose first words lie close together would
    otherwise draw the same sequence, shifted.
    """
    x = _fold(place ^ first, 16) * _FIRST
    x = _fold(x ^ second, 15) * _SECOND
    return _fold(x, 16)


def row_seeds(key: PRNGKeyArray, rows: Int[AnyArray, "M"]) -> Int32[Array, "M 2"]:
    """Two words of seed for each row, int32 [M,2].

    Args:
      key: of JAX.
      rows: int32 [M], numbers of rows in the whole batch.
    """
    words = jax.lax.bitcast_convert_type(jax.random.key_data(key).reshape(-1)[:2], jnp.int32)
    rows = rows.astype(jnp.int32) * _ROW
    first = hashed(rows, words[0], words[1])
    return jnp.stack([first, hashed(rows ^ first, words[1], words[0])], axis=-1)


def fold(seeds: Int[AnyArray, "*rows"], number: Int[AnyArray, ""] | int) -> Int32[Array, "*rows"]:
    """Other seeds int32 [...], by the number of what draws: a layer, a place in a layer."""
    number = jnp.asarray(number, jnp.int32) * _ROW
    return hashed(seeds, number, ~number)


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


def kept(bits: Int[AnyArray, "..."], rate: float, half: Int[AnyArray, "..."] | int = 0):
    """Bool [...]: whether the low (`half` 0) or high (1) 16 of `bits` keep their number."""
    shift = jnp.asarray(half, jnp.int32) * HALF
    draw = jax.lax.shift_right_logical(*jnp.broadcast_arrays(bits, shift)) & (2**HALF - 1)
    return draw >= threshold(rate)
