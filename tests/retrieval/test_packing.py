"""Every pair lies in one block of its image, whole, and blocks are well filled."""

import numpy as np
import pytest

from cada_jax.retrieval import packing
from cada_jax.retrieval.packing import Shape

WIDTH, IMAGE_TOKENS = 768, 197


def _pack(lengths, images, tokens=4672, few=0.0):
    shapes = packing.shapes_for(int(lengths.max()), tokens)
    costs = [packing.block_cost(shape, IMAGE_TOKENS, WIDTH) for shape in shapes]
    return packing.pack_pairs(lengths, images, shapes, costs, few)


def _cost(packed):
    cost = packing.block_cost
    return sum(len(b.image) * cost(shape, IMAGE_TOKENS, WIDTH) for shape, b in packed.items())


def _pairs(seed, longest):
    rng = np.random.default_rng(seed)
    weights = rng.random(40) ** 6 + 1e-9  # some images are wanted far more often than others
    images = np.sort(rng.choice(40, 700, p=weights / weights.sum()))
    return rng.integers(2, longest + 1, 700), images


@pytest.mark.parametrize("tokens", [1, 73, 300, 4672])
@pytest.mark.parametrize("few", [0.0, 500.0])
@pytest.mark.parametrize("longest", [12, 73, 300])
def test_every_pair_lies_whole_in_one_block_of_its_image(tokens, few, longest):
    lengths, images = _pairs(longest, longest)
    seen = []
    for shape, blocks in _pack(lengths, images, tokens, few).items():
        assert (
            blocks.pair.shape == blocks.start.shape == (len(blocks.image), shape.rows, shape.texts)
        )
        n, r, t = np.nonzero(blocks.pair >= 0)
        pair = blocks.pair[n, r, t]
        np.testing.assert_array_equal(images[pair], blocks.image[n])
        taken = np.zeros((len(blocks.image), *shape), int)
        for i, j, start, length in zip(n, r, blocks.start[n, r, t], lengths[pair], strict=True):
            assert start + length <= shape.length
            taken[i, j, start : start + length] += 1
        assert taken.max() == 1  # no two texts on one place
        seen.append(pair)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(700))


@pytest.mark.parametrize("longest", [3, 73, 128, 301])
@pytest.mark.parametrize("tokens", [1, 500, 10**4])
def test_shapes_hold_the_longest_text_and_grow(longest, tokens):
    shapes = packing.shapes_for(longest, tokens)
    assert max(shape.length for shape in shapes) >= longest
    for smaller, larger in zip(shapes, shapes[1:], strict=False):
        assert smaller.rows <= larger.rows and smaller.length <= larger.length
        assert larger.tokens > smaller.tokens
        assert smaller.length % 8 == 0  # what fused attention and the CPU's products like
    assert shapes[-1].tokens <= max(tokens, 2 * longest, 24)


def test_popular_images_are_packed_tightly():
    """32 texts of 17 to 47 tokens an image: under 15 % over what their tokens and images take."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(50), 32)
    lengths = rng.integers(17, 48, len(images))
    packed = _pack(lengths, images)
    least = lengths.sum() * (1 + IMAGE_TOKENS / (7 * WIDTH)) + 50 * IMAGE_TOKENS / 7
    assert _cost(packed) < 1.15 * least


@pytest.mark.parametrize(("texts", "length"), [([20], 24), ([32], 32), ([48], 48), ([16, 80], 96)])
def test_few_texts_take_the_shortest_row_that_holds_them(texts, length):
    """One text, say, that searches many images."""
    packed = _pack(np.array(100 * texts), np.repeat(np.arange(100), len(texts)))
    assert list(packed) == [Shape(1, length)]


def test_few_blocks_of_a_shape_take_the_next():
    lengths, images = _pairs(0, 47)
    plain, merged = _pack(lengths, images), _pack(lengths, images, few=1500.0)
    assert len(merged) < len(plain)
    assert _cost(merged) <= _cost(plain) + 1500.0 * (len(plain) - len(merged))


def test_layout_keeps_texts_and_says_where_they_are():
    ids = np.array([[7, 8, 9, 0, 0], [4, 5, 0, 0, 0], [1, 2, 3, 4, 5]])
    rows = packing.lay_out(
        ids,
        np.array([3, 2, 5]),
        text=np.array([[2, 1], [0, -1]]),
        start=np.array([[0, 6], [1, 0]]),
        length=9,
        pad=0,
    )
    none = -1
    assert rows.token_ids.tolist() == [[1, 2, 3, 4, 5, 0, 4, 5, 0], [0, 7, 8, 9, 0, 0, 0, 0, 0]]
    assert rows.positions.tolist() == [[0, 1, 2, 3, 4, 0, 0, 1, 0], [0, 0, 1, 2, 0, 0, 0, 0, 0]]
    assert rows.segments.tolist() == [
        [0, 0, 0, 0, 0, none, 1, 1, none],
        [none, 0, 0, 0, none, none, none, none, none],
    ]
