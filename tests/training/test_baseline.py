"""A run scores what it starts from once, and shows it beside what it ends with."""

import json
import os
import signal

import jax
import pytest

from cada_jax.checkpoints import inspect
from cada_jax.common.errors import StoppedError
from cada_jax.evaluation import baseline
from cada_jax.evaluation.run import evaluate
from cada_jax.training.run import train
from tests import cheap_run
from tests.conftest import tiny_config_of_runs
from tests.noise import NoiseData


@pytest.fixture
def config():
    return tiny_config_of_runs()


@pytest.fixture
def data(config, tmp_path):
    return NoiseData(config, tmp_path)


@pytest.fixture
def scored():
    """The (split, step) of every evaluation, in turn."""
    return []


@pytest.fixture
def parts(data, scored):
    """A cheap run that counts its evaluations; R@1 is the number of the evaluation."""

    def score(network, split, step=None, **_):
        scored.append((split.name, step))
        return cheap_run.scripted(split, {"R1": float(len(scored)), "mAP": 1.0}, step=step)

    return cheap_run.CHEAP | dict(data=data, devices=jax.devices()[:1], score=score)


def written(workdir):
    return json.loads((workdir / "results.json").read_text())


def stop_at(data, batch):
    """Lets the run get SIGTERM when it reads a batch; None: no more."""

    def during(number):
        if number == batch:
            os.kill(os.getpid(), signal.SIGTERM)

    data.during = None if batch is None else during


def starts(scored):
    return [(split, step) for split, step in scored if step == 0]


def test_the_start_is_scored_on_test_before_the_first_step(config, parts, scored, tmp_path, capsys):
    results = train(config, tmp_path / "run", **parts)
    assert scored[0] == ("test", 0) and starts(scored) == [("test", 0)]
    assert results["baseline"]["global"] == {"R1": 1.0, "mAP": 1.0}
    assert results["reranked"]["R1"] == 4.0
    assert written(tmp_path / "run") == results
    said = capsys.readouterr().err
    assert said.index("Scoring the start on test") < said.index("step 2/6")
    rows = [line.split() for line in said.splitlines()]
    assert ["test", "before", "after", "change", "before:", "random", "weights"] in rows
    assert ["reranked", "R1", "1.00", "4.00", "+3.00"] in rows
    assert ["global", "mAP", "1.00", "1.00", "+0.00"] in rows


def test_a_run_that_was_stopped_keeps_the_score_of_its_start(config, data, parts, scored, tmp_path):
    stop_at(data, 4)
    with pytest.raises(StoppedError):
        train(config, tmp_path / "run", **parts)
    stop_at(data, None)
    results = train(config, tmp_path / "run", **parts)
    assert len(starts(scored)) == 1
    assert results["baseline"]["reranked"]["R1"] == 1.0
    again = train(config, tmp_path / "run", **parts)  # nothing is left to train
    assert again["baseline"] == results["baseline"] and len(starts(scored)) == 1


def killed_before_its_first_checkpoint(config, workdir, parts):
    def never(setup):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, workdir, **parts | {"make_step": never})


def test_a_run_killed_before_its_first_checkpoint_does_not_score_its_start_again(
    config, parts, scored, tmp_path
):
    killed_before_its_first_checkpoint(config, tmp_path / "run", parts)
    assert train(config, tmp_path / "run", **parts)["baseline"]["reranked"]["R1"] == 1.0
    assert len(starts(scored)) == 1


@pytest.mark.parametrize("what", ["other weights", "another depth of search", "damaged file"])
def test_the_score_of_another_start_is_not_taken(config, parts, scored, tmp_path, what):
    killed_before_its_first_checkpoint(config, tmp_path / "run", parts)
    with config.unlocked():
        if what == "other weights":
            config.seed = 5
        elif what == "another depth of search":
            config.eval.rerank_top_k = 3
    if what == "damaged file":
        (tmp_path / "run" / baseline.BASELINE_FILE).write_text('{"global": {"R1"')
    results = train(config, tmp_path / "run", **parts)
    assert len(starts(scored)) == 2
    assert results["baseline"]["reranked"]["R1"] == 2.0


def test_a_start_that_is_not_to_be_scored_is_not(config, parts, scored, tmp_path, capsys):
    killed_before_its_first_checkpoint(config, tmp_path / "run", parts)
    with config.unlocked():
        config.eval.baseline = False
        config.seed = 5
    results = train(config, tmp_path / "run", **parts)
    assert len(starts(scored)) == 1, "that of the run before"
    assert results["baseline"] is None and written(tmp_path / "run")["baseline"] is None
    assert not (tmp_path / "run" / baseline.BASELINE_FILE).exists()
    assert "baseline: not scored" in capsys.readouterr().err


def test_scoring_first_changes_no_bit_of_the_run(config, parts, tmp_path):
    digests = {}
    for name in (True, False):
        with config.unlocked():
            config.eval.baseline = name
        train(config, tmp_path / str(name), **parts)
        digests[name] = inspect.digest(inspect.read(tmp_path / str(name)).params)
    assert digests[True] == digests[False]
    with config.unlocked():
        config.seed = 5
    train(config, tmp_path / "other", **parts)  # the digests tell runs apart
    assert inspect.digest(inspect.read(tmp_path / "other").params) != digests[True]


def test_scoring_alone_shows_the_start_if_it_was_scored_alike(config, data, parts, tmp_path):
    train(config, tmp_path / "run", **parts)
    parts.pop("make_step"), parts.pop("init_state")
    parts["score"] = lambda network, split, **_: cheap_run.scripted(split, {"R1": 9.0})
    with pytest.MonkeyPatch.context() as patch:  # the few arrays of a cheap run are no network
        patch.setattr("cada_jax.evaluation.run.find_trained", _trained)
        results = evaluate(config, tmp_path / "run", **parts)
        assert results["baseline"]["reranked"]["R1"] == 1.0
        with config.unlocked():
            config.eval.split = "val"
        assert "baseline" not in evaluate(config, tmp_path / "run", **parts)
        assert "baseline" not in evaluate(config, tmp_path / "new", **parts)


def _trained(network, root, vocab_path):
    from cada_jax.evaluation.run import SelectedParams

    return SelectedParams(network, 6, "last")


ALIKE = dict(
    dataset_version="noise/1.0.0", split="test", caption_protocol="all", num_queries=4,
    num_gallery=2, rerank_top_k=2,
)  # fmt: skip


def test_scores_of_two_kinds_are_not_compared():
    figures = {"global": {"R1": 1.0}, "reranked": {"R1": 2.0}}
    start = {**ALIKE, **figures, "start": "random weights", "step": 0}
    found = baseline.entry(start, {**ALIKE, **figures})
    assert found == {**figures, "start": "random weights", "step": 0}
    for key in ALIKE:
        assert baseline.entry({**start, key: "other"}, {**ALIKE, **figures}) is None
