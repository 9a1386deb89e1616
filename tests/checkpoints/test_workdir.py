"""A workdir is a run's: one at a time, of one configuration, and nothing of the user's goes."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from cada_jax.checkpoints import model, workdir
from cada_jax.common.errors import UsageError
from tests.checkpoints.saved import save_run
from tests.common.test_folder_lock import HOLDER


def claim(root, config):
    with workdir.working_in(root, config):
        workdir.claim(root, config)


@pytest.fixture
def vocab(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "words.txt"
    path.write_text("[PAD]\nred\n")
    return path


THEIRS = {
    "a model folder": ("model/weights.bin", "mine"),
    "a file called model": ("model", "mine"),
    "results of another program": ("results.json", '{"global": {}, "reranked": {}}'),
    "another project's configuration": ("config.json", '{"data": {}, "model": {}, "train": {}}'),
    "a folder called best": ("best/song.mp3", "mine"),
}


@pytest.mark.parametrize("case", THEIRS)
def test_a_folder_with_something_in_our_place_is_refused_before_anything(
    tiny_config, tmp_path, case
):
    name, content = THEIRS[case]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=f"there are {name.split('/')[0]} which this program did"):
        claim(tmp_path, tiny_config)
    with pytest.raises(UsageError, match="choose another --workdir"):
        with workdir.writing_results(tmp_path):
            pass
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / name).read_text() == content


def test_a_model_with_the_users_notes_deep_in_it_is_refused_at_the_start(
    tiny_config, tmp_path, vocab
):
    claim(tmp_path, tiny_config)
    model.save_model(tmp_path / "model", {"a": np.ones(3, np.float32)}, tiny_config, vocab)
    claim(tmp_path, tiny_config)
    (tmp_path / "model" / "params" / "notes.md").write_text("mine")
    with pytest.raises(UsageError, match=r"model .*did not write|not a model folder"):
        claim(tmp_path, tiny_config)


def test_other_files_in_the_folder_are_no_obstacle(tiny_config, tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    claim(tmp_path, tiny_config)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == tiny_config.seed
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_a_start_that_is_refused_later_leaves_nothing(tiny_config, tmp_path):
    (tmp_path / "mine").mkdir()
    for root in (tmp_path / "run", tmp_path / "mine"):
        with pytest.raises(KeyError):
            with workdir.working_in(root, tiny_config):
                raise KeyError("something was wrong with the data")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert not list((tmp_path / "mine").iterdir())
    # A run that ended before it saved anything, as one that ran out of memory, is begun anew.
    claim(tmp_path / "run", tiny_config)
    tiny_config.train.batch_size = 4
    claim(tmp_path / "run", tiny_config)
    assert json.loads((tmp_path / "run/config.json").read_text())["train"]["batch_size"] == 4


def test_a_folder_in_which_something_is_saved_keeps_its_configuration(tiny_config, tmp_path):
    claim(tmp_path, tiny_config)
    save_run(tmp_path, tiny_config, steps=(1,))
    written = (tmp_path / "config.json").read_text()
    tiny_config.train.log_every = 7  # free to change
    claim(tmp_path, tiny_config)
    assert (tmp_path / "config.json").read_text() == written
    tiny_config.optimizer.learning_rate = 0.5
    with pytest.raises(UsageError, match="learning_rate"):
        claim(tmp_path, tiny_config)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UsageError, match="holds checkpoints but no config.json"):
        claim(tmp_path, tiny_config)


@pytest.mark.parametrize("name", [workdir.LOCK_FILE, workdir.RESULTS_LOCK_FILE])
def test_a_second_process_is_refused_and_a_killed_one_leaves_the_folder_free(
    tiny_config, tmp_path, name
):
    def enter():
        if name == workdir.LOCK_FILE:
            claim(tmp_path, tiny_config)
        else:
            with workdir.writing_results(tmp_path):
                pass

    claim(tmp_path, tiny_config)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / name)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=f"is in use by process {other.pid} on "):
            enter()
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    enter()


def test_scoring_may_go_on_beside_training(tiny_config, tmp_path):
    with workdir.working_in(tmp_path, tiny_config), workdir.writing_results(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
