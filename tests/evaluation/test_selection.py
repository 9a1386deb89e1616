"""The number selected on test: kept apart, labelled, and kept over a restart."""

import json

from cada_jax.evaluation.selection import BestOnTest


def results(value):
    return {"global": {"R1": value / 2}, "reranked": {"R1": value}}


def make(folder, on_val, on_test, metric="reranked/R1"):
    on_val, on_test = iter(on_val), iter(on_test)
    scores = (lambda _: results(next(on_val)), lambda _: results(next(on_test)))
    return BestOnTest(folder, *scores, metric)


def test_the_selecting_split_decides_and_the_best_on_test_is_only_noted(tmp_path):
    score = make(tmp_path, [3, 9, 4], [50, 40, 60])
    returned = [score(step, None)["reranked"]["R1"] for step in (10, 20, 30)]
    assert returned == [3, 9, 4]
    assert (score.best["step"], score.best["value"]) == (30, 60)
    assert score.best["selected_on"] == "test" and score.best["global"]["R1"] == 30
    assert json.loads((tmp_path / "test_selected.json").read_text()) == score.best


def test_a_continued_run_keeps_the_best_so_far(tmp_path):
    make(tmp_path, [0], [50])(10, None)
    score = make(tmp_path, [0, 0], [45, 50])
    score(20, None), score(30, None)
    assert score.best["step"] == 10


def test_a_metric_that_is_not_there_is_left_to_the_loop_to_name(tmp_path):
    score = make(tmp_path, [1], [1], "reranked/R2")
    assert score(1, None)["reranked"]["R1"] == 1
    assert score.best is None and not list(tmp_path.iterdir())
