"""Both retrieval stages with the real model at a tiny size, against the plainest loops."""

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from cada_jax.distributed.batch import put_rows
from cada_jax.distributed.mesh import make_mesh
from cada_jax.models.cada import from_config, init_params
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.network import Network
from cada_jax.retrieval import encode, rerank, search

QUERIES, GALLERY, TOP = 11, 13, 5


def _mesh(config, devices=1):
    return make_mesh(config.mesh, jax.devices()[:devices])


def _batches(batch, **columns):
    """Batches as the input pipeline makes them: the last one padded by copies of row 0."""
    size = len(next(iter(columns.values())))
    for begin in range(0, size, batch):
        index = np.arange(begin, begin + batch)
        valid = index < size
        yield {name: x[np.where(valid, index, 0)] for name, x in columns.items()} | {"valid": valid}


@pytest.fixture(scope="module")
def world():
    """Random images [13] and captions [11] of five persons, as host arrays."""
    rng = np.random.default_rng(0)
    token_ids = np.zeros((QUERIES, 21), np.int32)
    for row, length in zip(token_ids, rng.integers(3, 20, QUERIES), strict=True):
        row[0], row[1:length], row[length] = 101, rng.integers(104, 190, length - 1), 102
    return {
        "image": rng.integers(0, 256, (GALLERY, 32, 16, 3), dtype=np.uint8),
        "image_pid": rng.integers(0, 5, GALLERY).astype(np.int32),
        "token_ids": token_ids,
        "text_pid": rng.integers(0, 5, QUERIES).astype(np.int32),
    }


@pytest.fixture
def model(tiny_config):
    return from_config(tiny_config)


@pytest.fixture(scope="module")
def made_once():
    return {}


@pytest.fixture
def params(model, tiny_config, made_once):
    """Random parameters; as large as the initialisation by fan-in makes them at this width."""
    if not made_once:
        init = jax.jit(lambda key: init_params(model, tiny_config, key))
        made_once["params"] = init(jax.random.key(0))
    return made_once["params"]


def _run(network, world, batch=4, rerank_batch=8, order=None):
    order = np.arange(GALLERY) if order is None else order
    gallery = encode.encode_gallery(
        network,
        _batches(batch, image=world["image"][order], pid=world["image_pid"][order]),
        GALLERY,
    )
    queries = encode.encode_queries(
        network, _batches(batch, token_ids=world["token_ids"], pid=world["text_pid"]), QUERIES
    )
    top, similarity = search.global_topk(queries.embeddings, gallery.embeddings, TOP, network.mesh)
    text = np.repeat(np.arange(QUERIES), TOP)
    pairs = rerank.Pairs(queries.token_ids, gallery.tokens, text, top.reshape(-1))
    logits = rerank.match_pairs(network, pairs, rerank_batch).reshape(top.shape)
    return gallery, queries, search.Retrieved(top, similarity, logits)


@pytest.fixture
def network(model, params, tiny_config):
    """On one device."""
    return Network(tiny_config, _mesh(tiny_config), model, params)


def test_rerank_equals_one_pair_at_a_time(model, params, network, world):
    _, _, found = _run(network, world)

    @jax.jit
    def match_logit(image, token_ids):
        def apply(*args, method):
            return model.apply({"params": params}, *args, method=method)

        _, tokens = apply(normalize_pixels(image[None]), method="encode_image")
        return apply(apply(token_ids[None], tokens, method="decode"), method="match")[0, 1]

    direct = np.array(
        [
            [match_logit(world["image"][i], ids) for i in row]
            for ids, row in zip(world["token_ids"], found.indices, strict=True)
        ]
    )
    assert direct.std() > 0.01  # else every order of the pairs would pass
    np.testing.assert_allclose(found.match_logit, direct, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.score, direct + found.similarity, rtol=1e-5, atol=1e-5)


def test_embeddings_are_projections_of_length_one(model, params, network, world):
    gallery, queries, _ = _run(network, world)

    def apply(*args, method):
        return model.apply({"params": params}, *args, method=method)

    image, tokens = apply(normalize_pixels(world["image"]), method="encode_image")
    images = np.asarray(apply(image, method="project_image"))
    text, _ = apply(world["token_ids"], method="encode_text")
    texts = np.asarray(apply(text, method="project_text"))
    np.testing.assert_allclose(gallery.tokens, tokens, rtol=1e-4, atol=1e-5)
    for ours, plain in ((gallery.embeddings, images), (queries.embeddings, texts)):
        unit = plain / np.linalg.norm(plain, axis=1, keepdims=True)
        np.testing.assert_allclose(ours, unit, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("batch", "rerank_batch"), [(1, 1), (3, 64), (16, 7)])
def test_batch_sizes_do_not_matter(network, world, batch, rerank_batch):
    gallery, queries, found = _run(network, world)
    others = _run(network, world, batch, rerank_batch)
    np.testing.assert_array_equal(others[0].pids, world["image_pid"])  # no padding among them
    np.testing.assert_array_equal(others[1].pids, world["text_pid"])
    np.testing.assert_array_equal(others[1].token_ids, world["token_ids"])
    np.testing.assert_allclose(others[0].tokens, gallery.tokens, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(others[2].indices, found.indices)
    np.testing.assert_allclose(others[2].similarity, found.similarity, atol=1e-5)
    np.testing.assert_allclose(others[2].match_logit, found.match_logit, rtol=1e-4, atol=1e-5)


def test_the_order_of_the_gallery_does_not_matter(network, world):
    order = np.random.default_rng(1).permutation(GALLERY)
    _, _, found = _run(network, world)
    _, _, shuffled = _run(network, world, order=order)
    np.testing.assert_array_equal(order[shuffled.indices], found.indices)
    np.testing.assert_allclose(shuffled.match_logit, found.match_logit, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axes", [(8, 1, 1), (2, 2, 2)])
def test_eight_devices_give_what_one_gives(model, params, network, world, tiny_config, axes):
    _, _, one = _run(network, world)
    tiny_config.mesh.data, tiny_config.mesh.fsdp, tiny_config.mesh.tensor = axes
    spread = Network(tiny_config, _mesh(tiny_config, 8), model, None).with_params(params)
    gallery, _, eight = _run(spread, world, rerank_batch=24)
    assert len(gallery.tokens) == GALLERY  # rows added to divide by 8 are gone
    np.testing.assert_array_equal(eight.indices, one.indices)
    np.testing.assert_allclose(eight.similarity, one.similarity, atol=1e-5)
    np.testing.assert_allclose(eight.match_logit, one.match_logit, rtol=1e-4, atol=1e-5)


def test_devices_exchange_nothing_while_pairs_are_scored(model, params, tiny_config):
    """A device has its own pairs and images: no collective operation in the compiled code."""
    mesh = _mesh(tiny_config, 8)
    rows = np.zeros((16, 24), np.int32)
    args = rows, rows, rows, rows[:, :1], np.zeros((8, 9, 32), np.float32)
    placed = [put_rows(x, mesh) for x in args]
    network = Network(tiny_config, mesh, model, None).with_params(params)
    text = network.run(rerank._match_logits.lower, *placed).compile().as_text()
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert collective not in text


def test_topk_equals_a_full_sort_and_the_blocks(tiny_config):
    rng = np.random.default_rng(2)
    queries, gallery = rng.normal(size=(2, 10, 6)).astype(np.float32)
    mesh = _mesh(tiny_config)
    similarity = queries @ gallery.T
    top, values = search.global_topk(queries, gallery, 3, mesh, block=4)
    np.testing.assert_array_equal(top, np.argsort(-similarity, axis=1)[:, :3])
    np.testing.assert_allclose(values, -np.sort(-similarity, axis=1)[:, :3], rtol=1e-5)
    matrix = np.full((10, 10), np.nan)
    for rows, block in search.similarity_blocks(queries, gallery, mesh, block=4):
        matrix[rows] = block
    np.testing.assert_allclose(matrix, similarity, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.take_along_axis(matrix, top, axis=1), values)


def test_topk_of_more_than_the_gallery_is_an_error(tiny_config):
    x = np.ones((10, 4), np.float32)
    with pytest.raises(ValueError, match="k = 11 images were asked of a gallery of 10"):
        search.global_topk(x, x, 11, _mesh(tiny_config))


def test_no_top_k_needs_no_model(unchecked_shapes, tiny_config):
    x = np.ones((10, 4), np.float32)
    top, similarity = search.global_topk(x, x, 0, _mesh(tiny_config))
    assert top.shape == similarity.shape == (10, 0)
    logits = rerank.match_pairs(None, rerank.Pairs(None, None, top.reshape(-1), top.reshape(-1)))
    assert logits.shape == (0,)


def test_a_wrong_number_of_rows_is_an_error(network, world):
    batches = _batches(4, image=world["image"], pid=world["image_pid"])
    with pytest.raises(ValueError, match="gallery batches hold 13 valid rows, 14"):
        encode.encode_gallery(network, batches, GALLERY + 1)


@pytest.mark.parametrize(
    ("blocks", "most"), [(5, 8), (32, 5), (160, 64), (129, 64), (513, 64), (9000, 64)]
)
@pytest.mark.parametrize("devices", [1, 8])
def test_few_batches_are_well_filled_and_many_are_of_one_size(blocks, most, devices):
    sizes = rerank._even_sizes(blocks, most * devices, devices)
    (size,), batches = set(sizes), len(sizes)
    assert batches == -(-blocks // size)
    assert size <= most * devices and size % devices == 0
    if blocks > rerank.FEW_BATCHES * most * devices:
        assert size == most * devices
    else:
        assert batches * size - blocks < max(devices * batches, 1 + blocks // 10)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("most", [1, 3, 10, 64, 682])
def test_steady_batches_come_in_few_sizes_whatever_is_asked(most, devices):
    seen = set()
    for blocks in range(1, 400):
        sizes = rerank._steady_sizes(blocks, most * devices, devices)
        seen |= set(sizes)
        assert sum(sizes) >= blocks > sum(sizes) - sizes[-1]
        assert all(size % devices == 0 and size <= most * devices for size in sizes)
    assert len(seen) <= 4


def test_steady_batches_give_the_same_logits_in_few_shapes(network, world):
    gallery, queries, found = _run(network, world)
    shapes = set()
    for count in range(1, QUERIES + 1):
        top = found.indices[:count].reshape(-1)
        pairs = rerank.Pairs(
            queries.token_ids, gallery.tokens, np.repeat(np.arange(count), TOP), top
        )
        planned = rerank.plan_batches(network, pairs, steady=True)
        shapes |= {(part.shape, len(part.image)) for part in planned}
        if count in (1, QUERIES):
            logits = rerank.match_pairs(network, pairs, steady=True).reshape(count, TOP)
            np.testing.assert_allclose(logits, found.match_logit[:count], atol=2e-5)
    assert len(shapes) <= 4


@hypothesis.given(st.data())
@hypothesis.settings(
    max_examples=20, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_a_gallery_that_grows_is_searched_as_a_new_one_is(tiny_config, data):
    mesh = _mesh(tiny_config)
    rows = np.zeros((0, 4), np.float32)
    growing = search.ExactSearch(rows, mesh)
    noise = np.random.default_rng(0)
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.lists(st.integers(0, 99), max_size=20, unique=True))
        new = noise.normal(size=(len(index), 4)).astype(np.float32)
        rows = np.pad(rows, ((0, max([len(rows), *(i + 1 for i in index)]) - len(rows)), (0, 0)))
        rows[index] = new
        growing.put(np.asarray(index, int), new)
    admitted = np.arange(len(growing)) < len(rows)
    admitted &= noise.random(len(growing)) < 0.7
    queries = noise.normal(size=(3, 4)).astype(np.float32)
    found, similarity = growing.nearest(queries, min(5, len(growing)), admitted)
    expected = np.where(admitted[: len(rows)], queries @ rows.T, -np.inf)
    for q, order in enumerate(np.argsort(-expected, axis=1, kind="stable")):
        order = order[np.isfinite(expected[q, order])][: found.shape[1]]
        assert found[q, : len(order)].tolist() == order.tolist()
        assert not np.isfinite(similarity[q, len(order) :]).any()
