"""Metrics on rank matrices made by hand, on random ones by a slow definition, on golden numbers."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cada_jax.retrieval.metrics import RankMetrics, rank_metrics


def _order(right, *keys):
    """Matches in rank order: by each key in turn, larger first, wrong first among equals."""
    ranks = np.lexsort((right, *(-np.asarray(key) for key in reversed(keys))), axis=-1)
    return np.take_along_axis(right, ranks, axis=1)


def _slow_metrics(ordered):
    """The definitions, query by query, on matches in rank order [Q, G]."""
    values = []
    for row in ordered:
        found = [i + 1 for i, is_right in enumerate(row) if is_right]
        average_precision = np.mean([(j + 1) / place for j, place in enumerate(found)])
        values.append([found[0] <= k for k in (1, 5, 10)])
        values[-1] += [average_precision, len(found) / found[-1]]
    return dict(zip(("R1", "R5", "R10", "mAP", "mINP"), 100 * np.mean(values, axis=0), strict=True))


def test_a_hand_made_ranking():
    # Rank order by similarity: query 0 finds its images at places 1 and 3, query 1 at 2.
    similarity = np.array([[0.9, 0.8, 0.7, 0.1], [0.1, 0.6, 0.2, 0.9]])
    right = np.array([[1, 0, 1, 0], [0, 1, 0, 0]], bool)
    result = rank_metrics(similarity, right)
    assert result == pytest.approx(
        {
            "R1": 50.0,
            "R5": 100.0,
            "R10": 100.0,
            "mAP": 100 * np.mean([(1 / 1 + 2 / 3) / 2, 1 / 2]),
            "mINP": 100 * np.mean([2 / 3, 1 / 2]),
        }
    )
    assert all(type(value) is float for value in result.values())  # JSON takes them


def test_no_digits_are_lost_next_to_large_scores():
    similarity = np.array([[0.1 + 1e-7, 0.1, 0.0]], np.float32)  # -100 + these are equal
    right = np.array([[True, False, False]])
    top, score = np.array([[2]]), np.array([[1e6]], np.float32)
    assert rank_metrics(similarity, right, top, score)["mAP"] == pytest.approx(50)


@st.composite
def _rankings(draw):
    """(similarity, right, top, score) with many ties; every query has a right image."""
    queries, gallery = draw(st.integers(1, 6)), draw(st.integers(1, 14))
    k, levels = draw(st.integers(0, gallery)), draw(st.sampled_from([1, 3, 1000]))
    values = st.integers(0, levels).map(float)
    similarity = draw(arrays(np.float32, (queries, gallery), elements=values))
    right = draw(arrays(bool, (queries, gallery)))
    right[np.arange(queries), draw(arrays(int, queries, elements=st.integers(0, gallery - 1)))] = 1
    orders = [draw(st.permutations(range(gallery))) for _ in range(queries)]
    top = np.array(orders)[:, :k]
    score = draw(arrays(np.float32, (queries, k), elements=values))
    return similarity, right, top, score


@given(_rankings())
def test_equals_the_slow_definition(ranking):
    similarity, right, top, score = ranking
    in_top, key = np.zeros(right.shape), similarity.copy()
    np.put_along_axis(in_top, top, 1, axis=1)
    np.put_along_axis(key, top, score, axis=1)
    expected = _slow_metrics(_order(right, in_top, key))
    assert rank_metrics(similarity, right, top, score) == pytest.approx(expected, rel=1e-12)


@given(_rankings(), st.integers(1, 6))
def test_blocks_of_queries_give_the_same_as_all_at_once(ranking, size):
    blocks, whole = RankMetrics(), RankMetrics()
    whole.add(*ranking)
    for begin in range(0, len(ranking[0]), size):
        blocks.add(*(x[begin : begin + size] for x in ranking))
    assert blocks.result() == whole.result()
    np.testing.assert_array_equal(blocks.first_rank, whole.first_rank)
    np.testing.assert_array_equal(blocks.average_precision, whole.average_precision)


def test_a_query_without_a_right_image_is_left_out_and_counted():
    similarity = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    right = np.array([[True, False], [False, False], [False, True]])
    metrics = RankMetrics()
    metrics.add(similarity, right)
    assert metrics.excluded == 1
    assert metrics.result()["R1"] == 50
    np.testing.assert_array_equal(metrics.first_rank, [0, -1, 1])


def test_no_right_image_at_all_is_an_error():
    with pytest.raises(ValueError, match="None of the 2 queries.*same split"):
        rank_metrics(np.zeros((2, 3)), np.zeros((2, 3), bool))


def test_bad_input_is_named(unchecked_shapes):
    good = np.zeros((2, 3)), np.ones((2, 3), bool)
    with pytest.raises(ValueError, match="twice"):
        rank_metrics(*good, np.array([[0, 1], [2, 2]]), np.zeros((2, 2)))


@pytest.mark.parametrize("case", ["rnd1", "rnd2", "ties"])
def test_golden_metrics(golden, case):
    arrays = np.load(golden / "d_metrics.npz")
    facts = json.loads((golden / "d_metrics.json").read_text())["extra"][case]
    right = arrays[f"{case}/txt2pid"][:, None] == arrays[f"{case}/img2pid"][None]
    result = rank_metrics(arrays[f"{case}/scores"], right)
    expected = facts["ties_relevant_last"]
    for ours, theirs in (("R1", "img_r1"), ("R5", "img_r5"), ("R10", "img_r10"), ("mAP", "mAP")):
        assert result[ours] == pytest.approx(expected[theirs], rel=1e-12)
        assert result[ours] <= facts["reference"][theirs] + 1e-9  # ties never flatter us


def test_golden_evaluation(golden):
    arrays = np.load(golden / "d_eval.npz")
    facts = json.loads((golden / "d_eval.json").read_text())["extra"]["metrics"]
    right = arrays["txt2pid"][:, None] == arrays["img2pid"][None]
    sims = arrays["sims"]
    score = arrays["rerank_score"] + arrays["topk_sim"]
    reranked = rank_metrics(sims, right, arrays["topk_idx"], score)
    for result, expected in ((rank_metrics(sims, right), facts["glb"]), (reranked, facts["itm"])):
        assert result["R1"] == pytest.approx(expected["img_r1"])
        assert result["R5"] == pytest.approx(expected["img_r5"])
        assert result["R10"] == pytest.approx(expected["img_r10"])
        assert result["mAP"] == pytest.approx(expected["mAP"])


def test_average_precision_of_each_query_is_in_the_order_added():
    metrics = RankMetrics()
    assert metrics.average_precision.shape == (0,)
    metrics.add(np.array([[3.0, 2.0, 1.0]]), np.array([[False, True, True]]))
    metrics.add(np.array([[3.0, 2.0, 1.0]]), np.zeros((1, 3), bool))
    metrics.add(np.array([[3.0, 2.0, 1.0]]), np.array([[True, False, False]]))
    np.testing.assert_allclose(metrics.average_precision, [(1 / 2 + 2 / 3) / 2, np.nan, 1.0])
