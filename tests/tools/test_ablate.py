"""The ablation as a command: where it starts from, what it refuses, and the whole of it."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from cada_jax.config import load_config, to_json
from tests.conftest import FAST_COMPILE, REPOSITORY
from tools import ablate


@pytest.mark.parametrize(
    ("argv", "init_from", "parts", "before"),
    [
        ([], "pretrained:matched", "all", False),
        (["--set", "init_parts=encoders"], "pretrained:matched", "encoders", False),
        (["--set", "eval.baseline=True"], "pretrained:matched", "all", True),
        (["--config=synthetic:scratch"], None, "all", False),
        (["--config=synthetic:scratch", "--init=runs/a/model"], "runs/a/model", "all", False),
    ],
)
def test_what_runs_start_from(argv, init_from, parts, before, tmp_path):
    flags = ablate.read_flags([f"--out={tmp_path}", *argv])
    base, changes = ablate.read_base(flags)
    assert (base.init_from, base.init_parts, base.eval.baseline) == (init_from, parts, before)
    config = load_config(flags.config)
    for name, value in changes.items():
        group, _, key = name.rpartition(".")
        with config.unlocked(), config.ignore_type():
            (config[group] if group else config)[key] = value
    assert to_json(config) == to_json(base), "the processes are given the same"


def test_a_start_without_a_decoder_is_trained_by_the_global_loss_alone():
    config = load_config("synthetic:encoders")
    assert (config.loss.atp_weight, config.loss.ara_weight, config.atp.gate) == (0.0, 0.0, "off")
    assert config.init_from == load_config("synthetic:pretrain").init_from
    assert config.data.variant == "abroad"


def test_the_start_of_the_table_is_that_of_the_demo_without_the_gate():
    config, other = load_config("synthetic:matched"), load_config("synthetic:abroad")
    assert config.atp.gate == "off"
    other.atp.gate = "off"
    assert to_json(config) == to_json(other)


def test_more_jobs_than_cpus_are_refused_before_anything_is_written(tmp_path, capsys):
    out = tmp_path / "out"
    assert ablate.main([f"--out={out}", "--config=synthetic:tiny", "--jobs=1000"]) == 2
    said = capsys.readouterr().err
    assert "--jobs=1000: expected at most one for each CPU" in said and len(said.splitlines()) == 1
    assert not out.exists()


@pytest.mark.slow
def test_two_rows_are_trained_stopped_continued_and_written(tmp_path, monkeypatch):
    monkeypatch.setenv("CADA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XLA_FLAGS", FAST_COMPILE)
    monkeypatch.chdir(REPOSITORY)
    out = tmp_path / "out"
    flags = [
        f"--out={out}", "--config=synthetic:tiny", "--rows=global,atp", "--seeds=1", "--steps=30",
        "--set", "train.log_every=1", "train.checkpoint_every=1",
    ]  # fmt: skip
    argv = [sys.executable, "-m", "tools.ablate", *flags]
    log = out / "runs" / "global-seed0.log"
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as first:
        while not log.is_file() or "step  3/30" not in log.read_text():
            assert first.poll() is None
            time.sleep(0.1)
        first.send_signal(signal.SIGTERM)
        assert first.wait() == 143
    assert "Stopped by SIGTERM" in log.read_text(), "the run's own process was told"
    assert ablate.main(flags) == 0
    assert "Continuing after step" in log.read_text()
    table = json.loads((out / "table.json").read_text())
    assert [row["name"] for row in table["rows"]] == ["global", "atp"]
    test = table["rows"][1]["sign_test"]
    queries = (out / "runs" / "atp-seed0" / "queries.jsonl").read_text().splitlines()
    assert test["better"] + test["worse"] + test["ties"] == len(queries)
    assert {p.name for p in out.iterdir()} >= {"table.md", "table.json"}
    kept = _times(out / "runs")
    assert ablate.main(flags) == 0
    assert _times(out / "runs") == kept, "nothing was trained again"


def _times(folder: pathlib.Path) -> dict:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
