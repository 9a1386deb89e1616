"""A run is a function of its configuration, however often it was stopped."""

import io
import json
import os
import pathlib
import signal
import types

import jax
import numpy as np
import pytest
from PIL import Image

from cada_jax.checkpoints import export, manager
from cada_jax.common.errors import DivergedError, MissingFileError, StoppedError, UsageError
from cada_jax.data import batches as batches_lib
from cada_jax.data import registry
from cada_jax.data import split as split_lib
from cada_jax.distributed import mesh as mesh_lib
from cada_jax.evaluation import evaluate
from cada_jax.training import loop, run, train_step
from cada_jax.training import workdir as workdir_lib
from tests.conftest import tiny_config_of_runs

STEPS_PER_EPOCH = 3


def make_split(name: str, persons: int, config, vocab_path: pathlib.Path):
    """Two noise images of every person, two captions of random words to each."""
    rng = np.random.default_rng(persons)
    height, width = config.data.image_size
    images, captions = 2 * persons, 4 * persons
    files = np.empty(images, object)
    for i in range(images):
        file = io.BytesIO()
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        files[i] = file.getvalue()
    tokens = config.model.tokens
    token_ids = rng.integers(110, 190, (captions, config.data.max_length), dtype=np.int32)
    token_ids[:, 0], token_ids[:, 12], token_ids[:, 13:] = tokens.cls, tokens.sep, tokens.pad
    phrase_ids = np.zeros_like(token_ids)
    phrase_ids[:, 2:4], phrase_ids[:, 6:9] = 1, 2
    return split_lib.Split(
        name=name,
        dataset="noise/1.0.0",
        images=files,
        image_paths=[f"{i}.png" for i in range(images)],
        image_pids=np.repeat(np.arange(persons, dtype=np.int32), 2),
        texts=[f"a person, number {i // 4}" for i in range(captions)],
        token_ids=token_ids,
        phrase_ids=phrase_ids,
        attribute_mask=phrase_ids > 0,
        caption_image=np.repeat(np.arange(images, dtype=np.int32), 2),
        vocab_path=vocab_path,
    )


@pytest.fixture
def config():
    """Six persons, batches of 8: three steps an epoch, two epochs."""
    return tiny_config_of_runs()


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """One device compiles fastest."""
    make_mesh = mesh_lib.make_mesh
    monkeypatch.setattr(mesh_lib, "make_mesh", lambda mesh: make_mesh(mesh, jax.devices()[:1]))


@pytest.fixture
def data(config, tmp_path, monkeypatch):
    """Splits in memory in place of prepared ones; returns them by name, to be changed."""
    words = ["[PAD]", *(f"word{i}" for i in range(1, 198)), "[DEC]", "[ENC]"]
    words[100:104] = "[UNK]", "[CLS]", "[SEP]", "[MASK]"
    vocab_path = tmp_path / "words.txt"
    vocab_path.write_text("\n".join(words) + "\n")
    persons = {"train": 6, "val": 3, "test": 4}
    splits = {name: make_split(name, n, config, vocab_path) for name, n in persons.items()}
    monkeypatch.setattr(split_lib, "load_split", lambda _, name: splits[name])
    builder = types.SimpleNamespace(info=types.SimpleNamespace(splits=splits))
    monkeypatch.setattr(registry, "prepared_builder", lambda _: builder)
    return splits


def stored_state(workdir, config, data, step=None):
    program = run.build(config, data["train"].vocab_path)
    with manager.Checkpoints(workdir, read_only=True) as saved:
        assert step in (None, saved.latest_step)
        return jax.device_get(saved.restore(program.state))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


@pytest.fixture
def scripted(monkeypatch):
    """An evaluation in no time that gives the scores put into the list returned, in turn."""
    scores = []

    def scripted_evaluate(model, params, split, config, mesh, **arguments):
        figures = {"R1": scores.pop(0) if scores else 0.0, "mAP": 1.0}
        keep = {k: arguments.get(k) for k in ("step", "selected_on")}
        return {"split": split.name, "global": figures, "reranked": figures, **keep}

    monkeypatch.setattr(evaluate, "evaluate", scripted_evaluate)
    return scores


def cheap_train_step(model, tx, config, mesh):
    """A step that compiles at once, and still depends on the batch, the seed and the step."""

    @jax.jit
    def step(state, batch, key):
        noise = jax.random.normal(jax.random.fold_in(key, state.step))
        seen = jax.numpy.mean(batch["image"]) + jax.numpy.mean(batch["token_ids"])
        params = jax.tree.map(lambda x: x + 1e-3 * (noise + seen), state.params)
        metrics = {"total": seen, "global": noise, "grad_norm": jax.numpy.ones(())}
        return state.replace(step=state.step + 1, params=params), metrics

    return step


@pytest.fixture
def cheap_step(monkeypatch):
    monkeypatch.setattr(train_step, "make_train_step", cheap_train_step)


def test_a_run_stopped_by_sigterm_and_continued_equals_one_that_was_not(
    config, data, scripted, tmp_path, monkeypatch
):
    run.train(config, tmp_path / "straight")
    straight = stored_state(tmp_path / "straight", config, data, step=6)
    batches = batches_lib.train_batches

    def with_a_signal(*arguments):
        for number, batch in enumerate(batches(*arguments)):
            if number == loop.PREFETCH + 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(batches_lib, "train_batches", with_a_signal)
    with pytest.raises(StoppedError) as stopped:
        run.train(config, tmp_path / "stopped")
    assert stopped.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert int(stored_state(tmp_path / "stopped", config, data).step) == 2  # inside an epoch
    monkeypatch.setattr(batches_lib, "train_batches", batches)
    results = run.train(config, tmp_path / "stopped")
    assert_same(stored_state(tmp_path / "stopped", config, data, step=6), straight)
    assert results["step"] in (3, 6)


def test_two_steps_and_two_more_equal_four(config, data, scripted, cheap_step, tmp_path):
    for name, ends in (("four", (4,)), ("two", (2, 4))):
        for end in ends:
            with config.unlocked():
                config.train.max_steps = end
            run.train(config, tmp_path / name)
    two, four = (stored_state(tmp_path / name, config, data, step=4) for name in ("two", "four"))
    assert_same(two, four)
    assert int(two.step) == 4


def test_the_best_on_val_is_exported_and_scored(config, data, scripted, cheap_step, tmp_path):
    scripted[:] = [30.0, 20.0, 77.0]  # val after epochs 1 and 2, then test
    results = run.train(config, tmp_path)
    assert results == {
        "split": "test",
        "global": {"R1": 77.0, "mAP": 1.0},
        "reranked": {"R1": 77.0, "mAP": 1.0},
        "step": 3,
        "selected_on": "val",
    }
    params, _, vocab_path = export.load_model(tmp_path / "model")
    last = stored_state(tmp_path, config, data, step=6).params
    with manager.Checkpoints(tmp_path, read_only=True) as saved:
        best = saved.restore_best(run.build(config, vocab_path).state.params)
    assert_same(params, jax.device_get(best))
    assert not np.array_equal(params["vision_proj"]["kernel"], last["vision_proj"]["kernel"])
    assert vocab_path.read_text() == data["test"].vocab_path.read_text()


def test_a_later_equal_score_does_not_replace_the_best_and_a_higher_one_does(
    config, data, scripted, cheap_step, tmp_path
):
    scripted[:] = [30.0, 30.0, 0.0]
    assert run.train(config, tmp_path / "equal")["step"] == 3
    scripted[:] = [30.0, 31.0, 0.0]
    assert run.train(config, tmp_path / "higher")["step"] == 6


def test_without_val_the_last_step_is_scored_and_said_to_be(
    config, data, scripted, cheap_step, tmp_path
):
    del data["val"]
    results = run.train(config, tmp_path)
    assert (results["selected_on"], results["step"]) == ("last", 6)
    results = run.evaluate_only(config, tmp_path)
    assert (results["selected_on"], results["step"]) == ("last", 6)


def test_selection_on_test_is_reported_as_such(config, data, scripted, cheap_step, tmp_path):
    with config.unlocked():
        config.eval.select_on = "test"
    assert run.train(config, tmp_path)["selected_on"] == "test"


def test_an_unknown_select_metric_lists_the_known(config, data, scripted, cheap_step, tmp_path):
    with config.unlocked():
        config.eval.select_metric = "R@1"
    with pytest.raises(UsageError, match=r"'R@1'.*reranked/R1"):
        run.train(config, tmp_path)


def test_scoring_alone_gives_what_the_end_of_training_gave(config, data, tmp_path):
    results = run.train(config, tmp_path / "run")
    figures = {k: results[k] for k in ("global", "reranked", "step", "selected_on")}
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == results
    assert (tmp_path / "run" / "retrieval.png").stat().st_size > 0
    again = run.evaluate_only(config, tmp_path / "run")
    assert {k: again[k] for k in figures} == figures
    # From the exported folder alone, in a workdir of its own or named by init_from.
    (tmp_path / "copy").mkdir()
    (tmp_path / "run" / "model").rename(tmp_path / "copy" / "model")
    copied = run.evaluate_only(config, tmp_path / "copy")
    assert copied["reranked"] == figures["reranked"] and copied["selected_on"] == "model"
    with config.unlocked():
        config.init_from = str(tmp_path / "copy" / "model")
    named = run.evaluate_only(config, tmp_path / "new")
    assert named["reranked"] == figures["reranked"] and named["selected_on"] == "init_from"


def test_scoring_an_empty_workdir_says_what_is_missing(config, data, tmp_path):
    with pytest.raises(MissingFileError, match="no checkpoint and no exported model"):
        run.evaluate_only(config, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(
    config, data, scripted, cheap_step, tmp_path, monkeypatch
):
    make_train_step = train_step.make_train_step

    def make_bad(*arguments):
        step = make_train_step(*arguments)

        def bad_at_five(state, batch, key):
            is_bad = int(state.step) + 1 == 5
            state, metrics = step(state, batch, key)
            return state, metrics | ({"total": jax.numpy.nan * metrics["total"]} if is_bad else {})

        return bad_at_five

    monkeypatch.setattr(train_step, "make_train_step", make_bad)
    with config.unlocked():
        config.train.checkpoint_every = 1
    with pytest.raises(DivergedError) as error:
        run.train(config, tmp_path)
    text = str(error.value)
    assert "at step 5" in text and "total nan" in text and "state of step 4 is kept" in text
    assert all(f"{term} " in text for term in ("global", "grad_norm"))
    state = stored_state(tmp_path, config, data, step=4)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
    assert not (tmp_path / "checkpoints" / "5").exists()


def test_a_workdir_of_another_configuration_is_refused(config, data, tmp_path):
    workdir_lib.prepare(tmp_path, config)
    with config.unlocked():
        config.optimizer.learning_rate = 0.5
        config.train.log_every = 7
    with pytest.raises(UsageError) as error:
        run.train(config, tmp_path)
    text = str(error.value)
    assert "config.optimizer.learning_rate: 0.001 there, 0.5 now" in text
    assert "config.train.log_every:" not in text
    assert "train.log_every" in text.rpartition("These may change:")[2]


def test_max_steps_may_change_unless_the_schedule_is_stretched_to_it(config, tmp_path):
    workdir_lib.prepare(tmp_path / "epoch", config)
    with config.unlocked():
        config.train.max_steps = 9
    workdir_lib.prepare(tmp_path / "epoch", config)
    with config.unlocked():
        config.optimizer.schedule = "step"
    workdir_lib.prepare(tmp_path / "step", config)
    with config.unlocked():
        config.train.max_steps = 10
    with pytest.raises(UsageError, match="config.train.max_steps: 9 there, 10 now"):
        workdir_lib.prepare(tmp_path / "step", config)


def test_an_unwritable_workdir_is_named(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--workdir=.*file/run: .*Choose another"):
        workdir_lib.prepare(tmp_path / "file" / "run", config)


def test_checkpoints_without_a_config_are_refused(config, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UsageError, match="holds checkpoints but no config.json"):
        workdir_lib.prepare(tmp_path, config)


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        ("optimizer.schedule", "epok", "config.optimizer.schedule is 'epok'"),
        ("mesh.data", 3, "does not fit 1 devices"),
        ("model.text.vocab_size", 201, "--config.model.text.vocab_size=200"),
    ],
)
def test_a_configuration_that_cannot_be_names_the_field(config, data, field, value, part):
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(UsageError, match=part):
        run.build(config, data["train"].vocab_path, STEPS_PER_EPOCH)


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
