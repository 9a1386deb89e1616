"""Every pair lies in one block of its image, whole, and blocks are well filled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

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


@st.composite
def _packings(draw):
    """Arguments of `_pack`: lengths [P] and sorted images [P] of pairs, tokens, few."""
    counts = draw(st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any))
    images = np.repeat(np.arange(len(counts)), counts)
    longest = draw(st.sampled_from([1, 12, 16, 73, 128, 300]))
    lengths = draw(arrays(int, len(images), elements=st.integers(1, longest)))
    tokens, few = draw(st.integers(1, 600)), draw(st.sampled_from([0.0, 500.0, 1e9]))
    return lengths, images, tokens, few


def _places(packed):
    """(shape, image, pair, block, row, start) of every pair that was packed."""
    for shape, blocks in packed.items():
        size = len(blocks.image), shape.rows, shape.texts
        assert blocks.pair.shape == blocks.start.shape == size
        for n, r, t in np.argwhere(blocks.pair >= 0):
            yield shape, blocks.image[n], blocks.pair[n, r, t], n, r, blocks.start[n, r, t]


@given(_packings())
def test_every_pair_is_placed_once_with_its_image_and_no_block_is_empty(given_pairs):
    packed = _pack(*given_pairs)
    found = [(pair, image) for _, image, pair, *_ in _places(packed)]
    assert sorted(found) == list(enumerate(given_pairs[1]))
    for blocks in packed.values():
        assert len(blocks.image) and (blocks.pair >= 0).any(axis=(1, 2)).all()


@given(_packings())
def test_texts_lie_within_their_row_and_none_on_another(given_pairs):
    lengths, packed = given_pairs[0], _pack(*given_pairs)
    taken = {}
    for shape, _, pair, block, row, start in _places(packed):
        assert 0 <= start and start + lengths[pair] <= shape.length
        used = taken.setdefault((shape, block, row), np.zeros(shape.length, int))
        used[start : start + lengths[pair]] += 1
    assert all(used.max() == 1 for used in taken.values())


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


@given(_packings())
def test_texts_can_be_read_back_from_their_rows(given_pairs):
    lengths, packed = given_pairs[0], _pack(*given_pairs)
    token_ids = np.zeros((len(lengths), lengths.max()), np.int32)  # each pair has a text of its own
    for q, length in enumerate(lengths):
        token_ids[q, :length] = 1 + np.arange(length) + 1000 * q
    for shape, blocks in packed.items():
        text, start = (x.reshape(-1, shape.texts) for x in (blocks.pair, blocks.start))
        rows = packing.lay_out(token_ids, lengths, text, start, shape.length, pad=-7)
        for m, t in np.argwhere(text >= 0):
            here = rows.segments[m] == t
            read = token_ids[text[m, t], : lengths[text[m, t]]]
            np.testing.assert_array_equal(rows.token_ids[m, here], read)
            np.testing.assert_array_equal(rows.positions[m, here], np.arange(len(read)))
            assert here.argmax() == start[m, t]
        empty = rows.segments < 0
        assert (rows.token_ids[empty] == -7).all() and not rows.positions[empty].any()
        assert (~empty).sum() == lengths[text[text >= 0]].sum()


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
