"""The evaluator on a small split, with the real model at a tiny size."""

import dataclasses
import io
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from cada_jax.common.errors import DivergedError, UsageError
from cada_jax.data.split import Split
from cada_jax.distributed.mesh import AXES, make_mesh
from cada_jax.evaluation import evaluate
from cada_jax.evaluation.results import write_evaluation
from cada_jax.models.cada import from_config, init_params
from cada_jax.network import Network, abstract_network
from cada_jax.retrieval import rerank as rerank_lib
from cada_jax.retrieval.encode import Queries
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.metrics import rank_metrics
from cada_jax.retrieval.ranking import IMAGE_TO_TEXT, rank

IMAGES, CAPTIONS, LENGTH = 14, 19, 21


def _png(rng):
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (32, 16, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def split():
    """14 images of 5 persons and 19 captions; the last images have no caption at all."""
    rng = np.random.default_rng(0)
    images = np.empty(IMAGES, object)
    images[:] = [_png(rng) for _ in range(IMAGES)]
    token_ids = np.zeros((CAPTIONS, LENGTH), np.int32)
    for row, length in zip(token_ids, rng.integers(3, 20, CAPTIONS), strict=True):
        row[0], row[1:length], row[length] = 101, rng.integers(104, 190, length - 1), 102
    return Split(
        name="val",
        dataset="people/tiny:1.0.0",
        images=images,
        image_paths=[f"{i}.png" for i in range(IMAGES)],
        image_pids=rng.integers(0, 5, IMAGES).astype(np.int32),
        texts=[f"a person number {i} in a red coat" for i in range(CAPTIONS)],
        token_ids=token_ids,
        phrase_ids=np.zeros_like(token_ids),
        attribute_mask=np.zeros(token_ids.shape, bool),
        caption_image=np.sort(rng.integers(0, IMAGES - 2, CAPTIONS)).astype(np.int32),
        vocab_path=Path("vocab.txt"),
    )


@pytest.fixture(scope="module")
def made_once():
    return {}


@pytest.fixture
def run(tiny_config, split, made_once):
    """A function that evaluates random parameters, changed by `edit`, with a changed config."""
    tiny_config.data.name = "people"
    tiny_config.eval.batch_size = 4
    tiny_config.eval.rerank_batch = 8
    tiny_config.eval.rerank_top_k = 6
    model = from_config(tiny_config)
    if not made_once:
        init = jax.jit(lambda key: init_params(model, tiny_config, key))
        # Larger than at the start of training, so that scores differ visibly.
        made_once["params"] = jax.tree.map(lambda x: np.asarray(4.0 * x), init(jax.random.key(0)))
    params = made_once["params"]

    def evaluate_it(edit=lambda params: params, workdir=None, notes=None, **options):
        sizes = [tiny_config.mesh[axis] for axis in AXES]
        devices = jax.devices()[: 1 if -1 in sizes else math.prod(sizes)]
        network = abstract_network(tiny_config, devices).with_params(edit(params))
        options = {"quiet": True, "image_to_text": workdir is not None} | options
        evaluation = evaluate.evaluate_split(network, split, **options)
        evaluation.results.update(notes or {})
        if workdir is not None:
            write_evaluation(workdir, evaluation, split, tiny_config)
        return evaluation.results

    return evaluate_it


def test_results_have_every_field_and_are_written(run, tmp_path):
    results = run(step=7, selected_on="val", workdir=tmp_path)
    assert {name: results[name] for name in ("dataset", "split", "step", "selected_on")} == {
        "dataset": "people",
        "split": "val",
        "step": 7,
        "selected_on": "val",
    }
    assert (results["num_queries"], results["num_gallery"]) == (CAPTIONS, IMAGES)
    assert results["rerank_top_k"] == 6
    assert results["parameters"] > 1000
    for stage in ("global", "reranked", "match_only"):
        assert {"R1", "R5", "R10", "mAP", "mINP"} <= results[stage].keys()
    assert results["global"] != results["reranked"]
    assert json.loads((tmp_path / "results.json").read_text()) == results
    with Image.open(tmp_path / "retrieval.png") as picture:
        assert picture.width > 1000
    files = ["queries.jsonl", "results.json", "retrieval.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == files
    assert results["caption_protocol"] == "all"
    assert {"R1", "R5", "R10", "mAP", "mINP"} == results["image_to_text"]["global"].keys()
    assert results["image_to_text"]["rerank_top_k"] == 0


def test_the_rows_of_the_queries_add_up_to_the_results(run, split, tmp_path):
    results = run(workdir=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "queries.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in rows] == split.texts
    scored = [row for row in rows if row["rank_reranked"]]
    assert len(rows) - len(scored) == results["queries_left_out"]
    for stage in ("global", "reranked"):
        for k in (1, 5, 10):
            share = np.mean([row[f"rank_{stage}"] <= k for row in scored])
            assert 100 * share == pytest.approx(results[stage][f"R{k}"])
    precision = np.mean([row["average_precision"] for row in scored])
    assert precision == pytest.approx(results["reranked"]["mAP"], abs=1e-3)
    for row in rows:
        assert len(row["hits"]) == 10
        right = [hit["right"] for hit in row["hits"]]
        first = row["rank_reranked"] or 99
        assert right.index(True) + 1 == first if True in right else first > 10
        assert [hit["match_logit"] is None for hit in row["hits"]] == [False] * 6 + [True] * 4


def test_rows_of_queries_can_be_left_out(run, tiny_config, tmp_path):
    tiny_config.eval.save_queries = False
    run(workdir=tmp_path)
    assert not (tmp_path / "queries.jsonl").exists()


def test_extra_notes_are_written(run, tmp_path):
    assert run(workdir=tmp_path, notes={"a": 1})["a"] == 1
    assert json.loads((tmp_path / "results.json").read_text())["a"] == 1


def test_images_search_captions_by_the_same_scores(tiny_config):
    """Logits put in by hand, by (text, image): the decoder lifts caption 2 for image 1."""
    gallery, queries, network = _hand_made(tiny_config)
    gallery = dataclasses.replace(gallery, pids=np.array([1, 9, 3, 5]))  # nobody describes person 5
    asked = []

    def match(network, pairs, progress):
        text, image = pairs.text_index, pairs.image_index
        asked.extend(zip(text.tolist(), image.tolist(), strict=True))
        return np.where((text == 2) & (image == 1), 7.0, 0.0).astype(np.float32)

    got = rank(network, queries, gallery, 3, IMAGE_TO_TEXT, match=match)
    assert sorted(asked) == [(text, image) for text in range(3) for image in range(4)]
    assert got.retrieved.indices.shape == (4, 3) and got.excluded == 1
    similarity = gallery.embeddings @ queries.embeddings.T
    right = gallery.pids[:, None] == queries.pids[None]
    assert got.metrics["global"] == pytest.approx(rank_metrics(similarity, right))
    expected = got.metrics["global"]["R1"] + 100 / 3
    assert got.metrics["reranked"]["R1"] == pytest.approx(expected)


def test_scoring_writes_nothing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run()
    assert not list(tmp_path.iterdir())


def test_bars_show_only_when_wanted(run, capfd):
    run()
    assert "encode images" not in capfd.readouterr().err
    run(quiet=False)
    shown = capfd.readouterr().err
    for part in ("encode images", "encode captions", "re-rank"):
        assert part in shown


def test_k_is_at_most_the_gallery(run, tiny_config):
    tiny_config.eval.rerank_top_k = 128
    whole = run()
    assert whole["rerank_top_k"] == IMAGES
    assert whole["right_in_top_k"] == 100.0


def test_no_reranking_equals_the_global_stage(run, tiny_config):
    tiny_config.eval.rerank_top_k = 0
    results = run()
    assert results["rerank_top_k"] == 0
    assert results["reranked"] == results["global"]
    assert results["right_in_top_k"] == 0.0


def test_batch_sizes_do_not_change_the_results(run, tiny_config):
    small = run()
    tiny_config.eval.batch_size, tiny_config.eval.rerank_batch = 32, 64
    large = run()
    for stage in ("global", "reranked", "match_only"):
        assert large[stage] == pytest.approx(small[stage])


def test_eight_devices_give_the_results_and_the_ranks_of_one(run, tiny_config, tmp_path):
    tiny_config.eval.batch_size, tiny_config.eval.image_to_text_top_k = 8, 3
    one = run(workdir=tmp_path / "one")
    tiny_config.mesh.data, tiny_config.mesh.fsdp, tiny_config.mesh.tensor = 2, 2, 2
    eight = run(workdir=tmp_path / "eight")
    assert one["image_to_text"]["global"] != one["image_to_text"]["reranked"]
    for results in (one, eight):
        del results["seconds"]
    assert eight == one
    one, eight = (
        [json.loads(line) for line in (tmp_path / name / "queries.jsonl").read_text().splitlines()]
        for name in ("one", "eight")
    )
    for ours, theirs in zip(eight, one, strict=True):
        hits = [[(hit["image"], hit["right"]) for hit in row.pop("hits")] for row in (ours, theirs)]
        assert hits[0] == hits[1]
        assert ours == theirs


def test_a_second_evaluation_compiles_nothing(run):
    compiled = rerank_lib._match_logits._cache_size

    run()
    first = compiled()
    # Other parameters, of a model built anew; the ranking, and so the rows, are the same.
    run(lambda params: jax.tree.map(lambda x: 1.0001 * x, params))
    assert compiled() == first > 0


def test_nan_parameters_are_named(run):
    def poison(params):
        projection = {name: np.full_like(x, np.nan) for name, x in params["text_proj"].items()}
        return params | {"text_proj": projection}

    with pytest.raises(DivergedError, match="text embeddings are not finite"):
        run(poison)


def _hand_made(tiny_config):
    """Embeddings whose similarity is known: 3 queries, 4 images on a circle."""
    mesh = make_mesh(tiny_config.mesh, jax.devices()[:1])
    angles = np.array([0.0, 0.5, 1.0, 1.5])
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    asked = np.array([0.1, 0.6, 1.45])
    queries = np.stack([np.cos(asked), np.sin(asked)], axis=1).astype(np.float32)
    return (
        EncodedImages(gallery, np.zeros((4, 1, 1), np.float32), np.array([1, 2, 3, 4])),
        Queries(queries, np.zeros((3, 5), np.int32), np.array([1, 3, 9])),
        Network(tiny_config, mesh, from_config(tiny_config), {}),
    )


def test_stages_are_scored_in_the_documented_order(tiny_config):
    """Logits put in by hand: the decoder corrects query 1 and spoils query 0."""
    gallery, queries, network = _hand_made(tiny_config)

    def match(network, pairs, progress):
        text, image = pairs.text_index, pairs.image_index
        lifted = (text == 0) & (image == 1) | (text == 1) & (image == 2)
        return np.where(lifted, 5.0, 0.0).astype(np.float32)

    scored = rank(network, queries, gallery, 2, match=match)
    np.testing.assert_array_equal(scored.retrieved.indices, [[0, 1], [1, 2], [3, 2]])
    np.testing.assert_array_equal(scored.first_global, [0, 1, -1])
    np.testing.assert_array_equal(scored.first_reranked, [1, 0, -1])
    assert scored.excluded == 1  # nobody in the gallery is person 9
    assert scored.metrics["global"]["R1"] == scored.metrics["reranked"]["R1"] == 50.0
    assert scored.metrics["right_in_top_k"] == 100.0
    # The whole ranking of query 1: image 2 lifted to the front, the other two by similarity.
    assert [image for image, _, _ in scored.best(1)] == [2, 1, 0, 3]
    assert [logit for _, _, logit in scored.best(1)] == [5.0, 0.0, None, None]


def test_match_only_ignores_the_similarity(tiny_config):
    gallery, queries, network = _hand_made(tiny_config)
    queries = queries._replace(pids=np.array([2, 1, 3]))

    def opposite(network, pairs, progress):
        return -np.arange(12.0, dtype=np.float32)[::-1]

    scored = rank(network, queries, gallery, 4, match=opposite)
    right = queries.pids[:, None] == gallery.pids[None]
    expected = rank_metrics(
        np.zeros((3, 4)), right, scored.retrieved.indices, scored.retrieved.match_logit
    )
    assert scored.metrics["match_only"] == {"top_k": 4, **expected}


def test_captions_of_nobody_in_the_gallery_are_an_error(tiny_config):
    gallery, queries, network = _hand_made(tiny_config)
    with pytest.raises(UsageError, match="None of the 3 captions.*gallery of 4 images"):
        rank(network, queries._replace(pids=np.full(3, 77)), gallery, 2)


def test_files_of_an_evaluation_before_are_replaced_together(run, tiny_config, tmp_path):
    run(workdir=tmp_path, step=1)
    tiny_config.eval.save_queries = False
    run(workdir=tmp_path, step=2)
    assert json.loads((tmp_path / "results.json").read_text())["step"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.json", "retrieval.png"]


def test_results_that_cannot_be_written_leave_those_before(run, tmp_path):
    run(workdir=tmp_path, step=1)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TypeError):
        run(workdir=tmp_path, notes={"bad": object()})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
