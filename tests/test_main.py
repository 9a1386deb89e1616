"""The command line: one message for a user's mistake, a traceback for a bug."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import FAST_COMPILE, REPOSITORY

COMMAND = (sys.executable, "-m", "cada_jax.main")
# The smallest run on generated people: 144 steps, so that a signal comes before the last.
TINY = """
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from cada_jax.text.tokenizer import Tokenizer
from configs import default


def get_config():
    c = default.get_config()
    c.data.update(name="synthetic", variant="tiny", image_size=(48, 24), max_length=49)
    c.model.image.patch = (24, 12)
    for part in (c.model.image, c.model.text):
        part.update(width=16, depth=1, heads=2, mlp_dim=32)
    words = Tokenizer(VOCAB_PATH)
    c.model.text.vocab_size = words.vocab_size
    c.model.tokens.update(**{k: words.special[k] for k in c.model.tokens})
    c.train.update(batch_size=2, epochs=2, eval_every=2, log_every=1)
    c.eval.update(batch_size=24, rerank_top_k=2, rerank_batch=48)
    return c
"""


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [*COMMAND, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--config.trian.epochs=3"], ["--config.trian.epochs=3", "'trian'", "'train'"]),
        (["--config.train.epoch=3"], ["--config.train.epoch=3", "'epoch'", "'epochs'"]),
        (["--config.train.epochs.x=3"], ["--config.train.epochs.x=3", "'x'", "default.py"]),
        (["--config.train.epochs=few"], ["--config.train.epochs=few", "invalid literal for int"]),
        (["--wrokdir=x"], ["'wrokdir'", "workdir"]),
        (["--mode=test"], ["--mode=test", "train|eval"]),
        (["runs/demo"], ["'runs/demo' is not a flag"]),
    ],
)
def test_a_mistake_in_the_command_is_one_message(arguments, parts, tmp_path):
    ran = run("--config=configs/default.py", f"--workdir={tmp_path}", *arguments)
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr and len(ran.stderr.splitlines()) <= 2
    for part in parts:
        assert part in ran.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "--config is missing"),
        (["--config=configs/default.py"], "--workdir is missing"),
        (["--config=configs/none.py", "--workdir=x"], "--config=configs/none.py: there is no such"),
        (["--config=configs/default.py:x", "--workdir=x"], "get_config() takes 0"),
    ],
)
def test_a_missing_flag_or_file_is_one_message(arguments, part):
    ran = run(*arguments)
    assert ran.returncode == 2
    assert part in ran.stderr and "Example: python -m cada_jax.main" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_bug_in_a_configuration_file_keeps_its_traceback(tmp_path):
    config = tmp_path / "broken.py"
    config.write_text("def get_config():\n    return {}['absent']\n")
    ran = run(f"--config={config}", f"--workdir={tmp_path}/run")
    assert ran.returncode == 1
    assert "Traceback" in ran.stderr and "KeyError: 'absent'" in ran.stderr


def test_a_workdir_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    ran = run("--config=configs/default.py", f"--workdir={tmp_path}/file/run")
    assert ran.returncode == 2
    assert f"--workdir={tmp_path}/file/run" in ran.stderr and "Traceback" not in ran.stderr


def test_one_command_trains_stops_at_sigterm_continues_and_scores(tmp_path):
    config, workdir = tmp_path / "tiny.py", tmp_path / "run"
    config.write_text(TINY)
    arguments = f"--config={config}", f"--workdir={workdir}"
    environment = os.environ | {"CADA_DATA_DIR": str(tmp_path / "data"), "XLA_FLAGS": FAST_COMPILE}
    options = dict(cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([*COMMAND, *arguments], **options) as first:
        seen = []
        for line in first.stderr:
            seen.append(line)
            if line.startswith("step"):
                break
        first.send_signal(signal.SIGTERM)
        seen += first.stderr
    assert first.returncode == 143, "".join(seen)
    assert "Stopped by SIGTERM" in seen[-1]
    (step,) = (int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert 0 < step < 144 and f"after step {step}," in seen[-1]

    second = subprocess.run([*COMMAND, *arguments], **options, timeout=900)
    assert second.returncode == 0, second.stderr
    assert second.stderr.startswith(f"Continuing after step {step}.")
    assert "E0000" not in second.stderr, "TensorFlow's own messages look like errors"
    results = json.loads((workdir / "results.json").read_text())
    assert results["dataset"] == "synthetic" and results["split"] == "test"
    assert results["selected_on"] == "val" and results["step"] == 144
    for stage in ("global", "reranked"):
        assert set(results[stage]) == {"R1", "R5", "R10", "mAP", "mINP"}
    files = {path.name for path in workdir.iterdir()}
    assert files >= {"config.json", "checkpoints", "best", "model", "results.json", "retrieval.png"}
    assert not [name for name in files if name.startswith(".")]
