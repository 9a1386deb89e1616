"""A workdir is a run's: one at a time, of one configuration, and nothing of the user's goes."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from cada_jax.checkpoints import export, run_folder
from cada_jax.common.errors import UsageError
from cada_jax.training import workdir
from tests.checkpoints.saved import save_run


def _params():
    return {"a": np.ones(3, np.float32)}


@pytest.fixture
def vocab(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "words.txt"
    path.write_text("[PAD]\nred\n")
    return path


@pytest.fixture(autouse=True)
def released(tmp_path):
    yield
    for _ in range(2):
        workdir.release(tmp_path)


THEIRS = {
    "a model folder": ("model", "weights.bin"),
    "a file called model": ("model", None),
    "results of another program": ("results.json", None),
    "another program's configuration": ("config.json", None),
    "pictures": ("retrieval.png", None),
    "a folder called best": ("best", "song.mp3"),
    "a folder called eval": ("eval", "notes.md"),
}


@pytest.mark.parametrize("case", THEIRS)
def test_a_folder_with_something_in_our_place_is_refused_before_anything(
    tiny_config, tmp_path, case
):
    name, inside = THEIRS[case]
    if inside:
        (tmp_path / name).mkdir()
        (tmp_path / name / inside).write_text("mine")
    else:
        (tmp_path / name).write_text('{"mine": 1}')
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=f"there are {name} which this program did not write"):
        workdir.prepare(tmp_path, tiny_config)
    with pytest.raises(UsageError, match="choose another --workdir"):
        with run_folder.writing_results(tmp_path):
            pass
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_with_the_users_notes_in_it_is_refused_at_the_start(tiny_config, tmp_path, vocab):
    workdir.claim(workdir.prepare(tmp_path, tiny_config), tiny_config)
    export.save_model(tmp_path / "model", _params(), tiny_config, vocab)
    workdir.prepare(tmp_path, tiny_config)
    (tmp_path / "model" / "notes.md").write_text("mine")
    with pytest.raises(UsageError, match=r"model .*did not write"):
        workdir.prepare(tmp_path, tiny_config)


def test_other_files_in_the_folder_are_no_obstacle(tiny_config, tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    workdir.claim(workdir.prepare(tmp_path, tiny_config), tiny_config)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == tiny_config.seed
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_a_start_that_is_refused_later_does_not_claim_the_folder(tiny_config, tmp_path):
    workdir.release(workdir.prepare(tmp_path, tiny_config))  # and then something was wrong
    tiny_config.optimizer.learning_rate = 0.5
    workdir.claim(workdir.prepare(tmp_path, tiny_config), tiny_config)
    workdir.release(tmp_path)
    # Nor does a run that ended before it saved anything, as one that ran out of memory.
    tiny_config.train.batch_size = 4
    root = workdir.prepare(tmp_path, tiny_config)
    workdir.claim(root, tiny_config)
    assert json.loads((root / "config.json").read_text())["train"]["batch_size"] == 4


def test_a_folder_in_which_something_is_saved_keeps_its_configuration(tiny_config, tmp_path):
    workdir.claim(workdir.prepare(tmp_path, tiny_config), tiny_config)
    save_run(tmp_path, tiny_config, steps=(1,))
    written = (tmp_path / "config.json").read_text()
    tiny_config.train.log_every = 7  # free to change
    workdir.claim(workdir.prepare(tmp_path, tiny_config), tiny_config)
    assert (tmp_path / "config.json").read_text() == written
    tiny_config.optimizer.learning_rate = 0.5
    with pytest.raises(UsageError, match="learning_rate"):
        workdir.prepare(tmp_path, tiny_config)


HOLDER = "import sys; from cada_jax.common import folder_lock; folder_lock.acquire(sys.argv[1]); \
print('held', flush=True); sys.stdin.read()"


@pytest.mark.parametrize("name", [run_folder.LOCK_FILE, run_folder.RESULTS_LOCK_FILE])
def test_a_second_process_is_refused_and_a_killed_one_leaves_the_folder_free(
    tiny_config, tmp_path, name
):
    def enter():
        if name == run_folder.LOCK_FILE:
            workdir.prepare(tmp_path, tiny_config)
        else:
            with run_folder.writing_results(tmp_path):
                pass

    enter()
    workdir.release(tmp_path)
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
    workdir.prepare(tmp_path, tiny_config)
    with run_folder.writing_results(tmp_path):
        pass


def test_what_an_older_version_scored_into_may_be_scored_into_again(tmp_path):
    results = {"global": {}, "reranked": {}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "retrieval.png").write_bytes(b"")
    with run_folder.writing_results(tmp_path):
        pass


@pytest.mark.parametrize("path", ["gs://bucket/run", "~nobody0/x", "a\\b", "x" * 300])
def test_a_path_that_cannot_be_used_is_one_line(tiny_config, tmp_path, path):
    with pytest.raises(UsageError) as error:
        workdir.prepare(path if path[0] in "g~" else tmp_path / path, tiny_config)
    assert len(str(error.value).splitlines()) == 1
