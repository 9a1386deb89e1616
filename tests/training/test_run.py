"""A run is a function of its configuration, however often it was stopped."""

import concurrent.futures
import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest

from cada_jax.checkpoints import model as model_lib
from cada_jax.checkpoints import workdir as workdir_lib
from cada_jax.checkpoints.run import Checkpoints
from cada_jax.common.errors import DivergedError, MissingFileError, StoppedError, UsageError
from cada_jax.evaluation.run import evaluate
from cada_jax.models import cada
from cada_jax.network import abstract_network
from cada_jax.training import loop, train_step
from cada_jax.training.run import train
from cada_jax.training.setup import make_setup
from tests import cheap_run
from tests.conftest import tiny_config_of_runs
from tests.noise import NoiseData

STEPS_PER_EPOCH = 3


@pytest.fixture
def config():
    """Six persons, batches of 8: three steps an epoch, two epochs."""
    return tiny_config_of_runs()


@pytest.fixture
def data(config, tmp_path):
    """Splits in memory in place of prepared ones; they may be changed."""
    return NoiseData(config, tmp_path)


@pytest.fixture
def scores():
    """What `scripted_score` gives, in turn; then 0."""
    return []


@pytest.fixture
def parts(data):
    """A real run on one device, which compiles fastest."""
    return dict(data=data, devices=jax.devices()[:1])


@pytest.fixture
def scripted(parts, scores):
    """The same with an evaluation in no time."""

    def scripted_score(network, split, step=None, selected_on=None, **_):
        figures = {"R1": scores.pop(0) if scores else 0.0, "mAP": 1.0}
        return cheap_run.scripted(split, figures, step=step, selected_on=selected_on)

    return parts | dict(score=scripted_score)


@pytest.fixture
def cheap(scripted):
    """The same with a step that compiles at once."""
    return scripted | dict(make_step=cheap_run.cheap_step)


def evaluated(config, workdir, parts):
    """What scoring alone gives with the same parts."""
    return evaluate(config, workdir, **{k: v for k, v in parts.items() if k != "make_step"})


def stored_state(workdir, config, step=None):
    setup = make_setup(config, STEPS_PER_EPOCH, jax.devices()[:1])
    with Checkpoints(workdir, read_only=True) as saved:
        assert step in (None, saved.latest_step)
        return jax.device_get(saved.restore(train_step.abstract_state(setup)))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


def test_a_run_stopped_by_sigterm_and_continued_equals_one_that_was_not(
    config, data, scripted, tmp_path
):
    train(config, tmp_path / "straight", **scripted)
    straight = stored_state(tmp_path / "straight", config, step=6)

    def signal_once(number):
        if number == loop.PREFETCH + 1:
            os.kill(os.getpid(), signal.SIGTERM)

    data.during = signal_once
    with pytest.raises(StoppedError) as stopped:
        train(config, tmp_path / "stopped", **scripted)
    assert stopped.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert int(stored_state(tmp_path / "stopped", config).step) == 2  # inside an epoch
    data.during = None
    results = train(config, tmp_path / "stopped", **scripted)
    assert_same(stored_state(tmp_path / "stopped", config, step=6), straight)
    assert results["step"] in (3, 6)


def test_two_steps_and_two_more_equal_four(config, cheap, tmp_path):
    for name, ends in (("four", (4,)), ("two", (2, 4))):
        for end in ends:
            with config.unlocked():
                config.train.max_steps = end
            train(config, tmp_path / name, **cheap)
    two, four = (stored_state(tmp_path / name, config, step=4) for name in ("two", "four"))
    assert_same(two, four)
    assert int(two.step) == 4


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        ("optimizer.warmup_steps", 999_999, "at most 6, the steps of this run"),
        ("train.max_steps", 9, "of the steps 1 to 9 have a learning rate of 0"),
    ],
)
def test_a_schedule_that_cannot_train_is_refused(config, cheap, tmp_path, field, value, part):
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(UsageError, match=part):
        train(config, tmp_path / "run", **cheap)
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_finished_run_is_not_continued_at_a_rate_of_0(config, cheap, tmp_path):
    train(config, tmp_path, **cheap)
    with config.unlocked():
        config.train.max_steps = 7
    with pytest.raises(UsageError, match="100% of the steps 7 to 7 have a learning rate of 0"):
        train(config, tmp_path, **cheap)


def test_a_run_may_be_trained_by_a_thread(config, cheap, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        assert thread.submit(train, config, tmp_path, **cheap).result()["split"] == "test"


def test_the_best_on_val_is_exported_and_scored(config, data, cheap, scores, tmp_path):
    scores[:] = [5.0, 30.0, 20.0, 77.0]  # the start on test, val after epochs 1 and 2, then test
    results = train(config, tmp_path, **cheap)
    assert results == {
        "split": "test",
        "global": {"R1": 77.0, "mAP": 1.0},
        "reranked": {"R1": 77.0, "mAP": 1.0},
        "step": 3,
        "selected_on": "val",
        "baseline": {
            "start": "random weights",
            "step": 0,
            "global": {"R1": 5.0, "mAP": 1.0},
            "reranked": {"R1": 5.0, "mAP": 1.0},
        },
    }
    params, _, vocab_path, _ = model_lib.load_model(tmp_path / "model")
    last = stored_state(tmp_path, config, step=6).params
    with Checkpoints(tmp_path, read_only=True) as saved:
        best = saved.restore_best(abstract_network(config, jax.devices()[:1]).params)
    assert_same(params, jax.device_get(best))
    assert not np.array_equal(params["vision_proj"]["kernel"], last["vision_proj"]["kernel"])
    assert vocab_path.read_text() == data.vocab_path.read_text()


def test_a_later_equal_score_does_not_replace_the_best_and_a_higher_one_does(
    config, data, cheap, scores, tmp_path
):
    scores[:] = [0.0, 30.0, 30.0, 0.0]
    assert train(config, tmp_path / "equal", **cheap)["step"] == 3
    scores[:] = [0.0, 30.0, 31.0, 0.0]
    assert train(config, tmp_path / "higher", **cheap)["step"] == 6


def test_without_val_the_last_step_is_scored_and_said_to_be(config, data, cheap, scores, tmp_path):
    del data.splits["val"]
    results = train(config, tmp_path, **cheap)
    assert (results["selected_on"], results["step"]) == ("last", 6)
    results = evaluated(config, tmp_path, cheap)
    assert (results["selected_on"], results["step"]) == ("last", 6)


def test_the_last_is_scored_and_exported_if_that_is_asked_for(config, cheap, scores, tmp_path):
    with config.unlocked():
        config.eval.select = "last"
    scores[:] = [5.0, 30.0, 20.0, 77.0]  # val was scored all the same, and was better before
    results = train(config, tmp_path, **cheap)
    assert (results["selected_on"], results["step"], results["global"]["R1"]) == ("last", 6, 77.0)
    params, *_ = model_lib.load_model(tmp_path / "model")
    assert_same(params, stored_state(tmp_path, config, step=6).params)
    scores[:] = [77.0]
    again = evaluated(config, tmp_path, cheap)
    assert (again["selected_on"], again["step"]) == ("last", 6)


def test_selection_on_test_is_reported_as_such(config, cheap, tmp_path):
    with config.unlocked():
        config.eval.select_on = "test"
    assert train(config, tmp_path, **cheap)["selected_on"] == "test"


def test_scoring_alone_gives_what_the_end_of_training_gave(config, parts, tmp_path):
    results = train(config, tmp_path / "run", **parts)
    figures = {k: results[k] for k in ("global", "reranked", "step", "selected_on")}
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == results
    assert (tmp_path / "run" / "retrieval.png").stat().st_size > 0
    again = evaluated(config, tmp_path / "run", parts)
    assert {k: again[k] for k in figures} == figures
    # From the exported folder alone, in a workdir of its own or named by init_from.
    (tmp_path / "copy").mkdir()
    (tmp_path / "run" / "model").rename(tmp_path / "copy" / "model")
    copied = evaluated(config, tmp_path / "copy", parts)
    assert copied["reranked"] == figures["reranked"] and copied["selected_on"] == "model"
    with config.unlocked():
        config.init_from = str(tmp_path / "copy" / "model")
    named = evaluated(config, tmp_path / "new", parts)
    assert named["reranked"] == figures["reranked"] and named["selected_on"] == "init_from"


def test_a_model_without_a_gate_is_scored_as_it_is(config, data, cheap, tmp_path):
    plain = config.copy_and_resolve_references().unlock()
    plain.atp.gate = "off"
    model = cada.from_config(plain)
    params = jax.jit(lambda key: cada.init_params(model, plain, key))(jax.random.key(0))
    model_lib.save_model(tmp_path / "plain", params, plain, data.vocab_path)
    with config.unlocked():
        config.init_from = str(tmp_path / "plain")
    scored = []

    def keep(network, split, **_):
        scored.append(network.params)
        return cheap_run.scripted(split, {"R1": 1.0})

    evaluated(config, tmp_path / "new", cheap | {"score": keep})
    gate = scored[0]["text_encoder"]["layers"]["gate"]
    assert not np.any(gate["kernel"]) and not np.any(gate["bias"])  # the gate is exactly 1
    del scored[0]["text_encoder"]["layers"]["gate"]
    assert_same(jax.device_get(scored[0]), jax.device_get(params))


def test_of_a_start_from_encoders_the_whole_result_is_scored_and_the_start_is_not(
    config, data, cheap, tmp_path
):
    model = cada.from_config(config)
    params = jax.jit(lambda key: cada.init_params(model, config, key))(jax.random.key(0))
    model_lib.save_model(tmp_path / "run" / "model", params, config, data.vocab_path)
    with config.unlocked():
        config.init_from, config.init_parts = str(tmp_path / "run" / "model"), "encoders"
    scored = []

    def keep(network, split, **_):
        scored.append(network.params)
        return cheap_run.scripted(split, {"R1": 1.0})

    evaluated(config, tmp_path / "run", cheap | {"score": keep})
    assert_same(jax.device_get(scored[0]), jax.device_get(params))
    with pytest.raises(UsageError, match="is not the whole model, so it is not scored"):
        evaluated(config, tmp_path / "new", cheap | {"score": keep})
    assert len(scored) == 1


def test_scoring_an_empty_workdir_says_what_is_missing(config, parts, tmp_path):
    with pytest.raises(MissingFileError, match="no checkpoint and no exported model"):
        evaluated(config, tmp_path / "nothing", parts)
    assert not (tmp_path / "nothing").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(
    config, cheap, tmp_path
):
    def make_bad(setup):
        step = cheap_run.cheap_step(setup)

        def bad_at_five(state, batch, key):
            is_bad = int(state.step) + 1 == 5
            state, metrics = step(state, batch, key)
            return state, metrics | ({"total": jax.numpy.nan * metrics["total"]} if is_bad else {})

        return bad_at_five

    with config.unlocked():
        config.train.checkpoint_every = 1
    with pytest.raises(DivergedError) as error:
        train(config, tmp_path, **cheap | {"make_step": make_bad})
    text = str(error.value)
    assert "at step 5" in text and "total nan" in text and "state of step 4 is kept" in text
    assert all(f"{term} " in text for term in ("global", "grad_norm"))
    state = stored_state(tmp_path, config, step=4)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
    assert not (tmp_path / "checkpoints" / "5").exists()


def claim(folder, config):
    """What a run leaves that saved its first step."""
    with workdir_lib.working_in(folder, config):
        workdir_lib.claim(folder, config)
    (folder / "checkpoints" / "1").mkdir(parents=True)


def test_a_workdir_of_another_configuration_is_refused(config, cheap, tmp_path):
    claim(tmp_path, config)
    with config.unlocked():
        config.optimizer.learning_rate = 0.5
        config.train.log_every = 7
    with pytest.raises(UsageError) as error:
        train(config, tmp_path, **cheap)
    text = str(error.value)
    assert "config.optimizer.learning_rate: 0.001 there, 0.5 now" in text
    assert "config.train.log_every:" not in text
    assert "train.log_every" in text.rpartition("These may change:")[2]


def test_max_steps_may_change_unless_the_schedule_is_stretched_to_it(config, tmp_path):
    claim(tmp_path / "epoch", config)
    with config.unlocked():
        config.train.max_steps = 9
    with workdir_lib.working_in(tmp_path / "epoch", config):
        pass
    with config.unlocked():
        config.optimizer.schedule = "step"
    claim(tmp_path / "step", config)
    with config.unlocked():
        config.train.max_steps = 10
    with pytest.raises(UsageError, match="config.train.max_steps: 9 there, 10 now"):
        claim(tmp_path / "step", config)


def test_a_training_split_of_one_person_is_refused_before_anything_is_written(
    config, data, cheap, tmp_path
):
    data.splits["train"].image_pids[:] = 7
    with pytest.raises(UsageError, match=r"train shows one person only \(pid 7\)"):
        train(config, tmp_path / "run", **cheap)
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_run_is_not_continued_on_other_data_or_another_vocabulary(config, data, cheap, tmp_path):
    with config.unlocked():
        config.train.max_steps = 2
    train(config, tmp_path, **cheap)
    with config.unlocked():
        config.train.max_steps = 4
    split = data.splits["train"]
    data.splits["train"] = dataclasses.replace(split, token_ids=split.token_ids[::-1])
    with pytest.raises(UsageError, match="on other data or another vocabulary:\n  training data:"):
        train(config, tmp_path, **cheap)
    data.splits["train"] = split
    words = data.vocab_path.read_text()
    data.vocab_path.write_text(words.replace("word1\n", "wort1\n"))
    fresh = dataclasses.replace(data.splits["test"])
    data.splits["test"] = fresh
    with pytest.raises(UsageError, match="vocabulary: "):
        evaluated(config, tmp_path, cheap)
    data.vocab_path.write_text(words)
    train(config, tmp_path, **cheap)  # goes on where it was


def test_a_missing_test_split_is_found_before_the_first_step(config, data, cheap, tmp_path):
    del data.splits["test"]
    steps = []
    with pytest.raises(UsageError, match="no split 'test'"):
        train(config, tmp_path / "run", **cheap | {"make_step": steps.append})
    assert not steps and not (tmp_path / "run" / "config.json").exists()


def test_batches_come_in_order_and_are_put_on_the_devices_ahead():
    mesh = jax.make_mesh((1, 1), ("data", "fsdp"), devices=jax.devices()[:1])
    read = []

    def batches():
        for i in range(6):
            read.append(i)
            yield {"x": np.full((2,), i)}

    ahead = loop.device_batches(batches(), mesh)
    assert int(next(ahead)["x"][0]) == 0
    assert read == list(range(loop.PREFETCH + 1))
    assert [int(batch["x"][0]) for batch in ahead] == [1, 2, 3, 4, 5]
