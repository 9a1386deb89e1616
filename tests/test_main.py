"""The command line: one message for a user's mistake, a traceback for a bug."""

import pathlib
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "cada_jax.main", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)


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
