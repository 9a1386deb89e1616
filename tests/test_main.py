"""`cada train` and `cada evaluate`: one message for a user's mistake, and nothing touched."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from cada_jax.checkpoints.workdir import LOCK_FILE, RESULTS_LOCK_FILE
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

# As absl, TensorFlow and XLA begin a line of their log: "I0000 00:00:1795634639.913068 ...".
LIBRARY_LINE = re.compile(r"[IWEF]\d{4} |WARNING|\d{4}-\d\d-\d\d ")


# Parses many command lines in one process, as the program does, and says what each ended with.
PARSE_ALL = """
import contextlib, io, json, sys
from cada_jax import main
from cada_jax.common.command_line import run_command

def parse(mode, arguments):
    main.parse_command(arguments, mode)[1].train.epochs
    return 0

ended = []
for mode, *arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command(lambda: parse(mode, arguments))
    ended.append((code, out.getvalue(), err.getvalue()))
heavy = sorted({"jax", "tensorflow", "flax", "orbax", "numpy"} & {*sys.modules})
print(json.dumps([ended, heavy]))
"""
FILES = ["--config=synthetic", "--workdir=/none/run"]
MISTAKES = [
    ([*FILES, "--config.trian.epochs=3"], ["--config.trian.epochs=3", "train.epochs"]),
    ([*FILES, "--config.train.epochs=few"], ["config.train.epochs is 'few'", "a whole number"]),
    ([*FILES, "--config.model.image.heads=5"], ["config.model.image.heads is 5", "96"]),
    ([*FILES, "--wrokdir=x"], ["'--wrokdir=x'", "--workdir"]),
    ([*FILES, "--mode=test"], ["--mode", "'train', 'eval'"]),
    ([*FILES, "--num_processes=x"], ["--num_processes"]),
    ([*FILES, "runs/demo"], ["'runs/demo'"]),
    ([], ["--config, --workdir"]),
    (["--config=default"], ["--workdir"]),
    (["--config=configs/none.py", "--workdir=x"], ["--config=configs/none.py: there is no such"]),
    (["--config=configs/default.py:x", "--workdir=x"], ["get_config() takes 0"]),
    (["--config=README.md", "--workdir=x"], ["README.md, line ", "SyntaxError"]),
    ([FILES[0], "--workdir=~nouser/x"], ["there is no user ~nouser"]),
    ([FILES[0], "--workdir=gs://bucket/run"], ["expected a path, got an address"]),
    (
        ["--config=rstp", "--workdir=x", "--config.data.data_dir=/none"],
        ["cada prepare --dataset=rstp"],
    ),
]
GOOD = [
    ["train", *FILES],
    ["train", *FILES, "--mode=eval", "--config.eval.rerank_top_k=0"],
    ["eval", *FILES, "--config.init_from=None", "--config.data.image_size=96,64"],
    [
        "train",
        "--config",
        "synthetic:tiny",
        "--workdir",
        "~/x",
        "--config.train.batch_size",
        "64.0",
    ],
    ["train", "--help"],
]


@pytest.fixture(scope="module")
def ended():
    """(exit code, stdout, stderr) of every line in MISTAKES and GOOD, and what was imported."""
    lines = [["train", *arguments] for arguments, _ in MISTAKES] + GOOD
    ran = subprocess.run(
        (sys.executable, "-c", PARSE_ALL),
        input=json.dumps(lines), cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_a_mistake_in_the_command_is_one_line_and_exit_code_2(ended):
    for (arguments, parts), (code, out, err) in zip(MISTAKES, ended[0], strict=False):
        assert code == 2 and not out, (arguments, err)
        assert err.startswith("error: ") and len(err.splitlines()) == 1, err
        for part in parts:
            assert part in err, err


def test_a_right_command_is_read_in_silence(ended):
    *parsed, helped = ended[0][len(MISTAKES) :]
    assert parsed == [[0, "", ""]] * (len(GOOD) - 1)
    code, out, err = helped
    assert code == 0 and not err
    for part in ("Exit codes:", "--workdir", "python -m cada_jax.config"):
        assert part in out


def test_nothing_heavy_is_imported_before_a_command_is_refused(ended):
    assert ended[1] == []


def test_the_listing_of_fields_needs_nothing_heavy():
    code = (
        "import atexit, runpy, sys; sys.argv = ['x', 'train'];"
        "atexit.register(lambda: print(sorted({'jax', 'tensorflow', 'numpy'} & {*sys.modules})));"
        "runpy.run_module('cada_jax.config', run_name='__main__')"
    )
    ran = subprocess.run(
        (sys.executable, "-c", code), cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    *rows, heavy = ran.stdout.splitlines()
    assert ran.returncode == 0 and heavy == "[]"
    assert any(row.startswith("| `train.batch_size` | `120` |") for row in rows)


def test_what_nobody_foresaw_is_one_line_and_leaves_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    command = [*COMMAND, "--config=synthetic:tiny", f"--workdir={tmp_path}/run"]
    environment = os.environ | {"CADA_DATA_DIR": str(tmp_path / "file")}
    ran = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ") and len(ran.stderr.splitlines()) == 1, ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_one_command_trains_stops_at_sigterm_continues_and_scores(tmp_path):
    config, workdir = tmp_path / "tiny.py", tmp_path / "run"
    config.write_text(TINY)
    arguments = f"--config={config}", f"--workdir={workdir}"
    environment = os.environ | {"CADA_DATA_DIR": str(tmp_path / "data"), "XLA_FLAGS": FAST_COMPILE}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # as a user's shell has it
    options = dict(cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([*COMMAND, *arguments], **options) as first:
        seen = []
        for line in first.stderr:
            seen.append(line)
            assert not LIBRARY_LINE.match(line), "a line that is not our own"
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
    assert not [line for line in second.stderr.splitlines() if LIBRARY_LINE.match(line)]
    results = json.loads((workdir / "results.json").read_text())
    assert results["dataset"] == "synthetic" and results["split"] == "test"
    assert results["selected_on"] == "val" and results["step"] == 144
    for stage in ("global", "reranked"):
        assert set(results[stage]) == {"R1", "R5", "R10", "mAP", "mINP"}
    files = {path.name for path in workdir.iterdir()}
    assert files >= {"config.json", "checkpoints", "best", "model", "results.json", "retrieval.png"}
    locks = {LOCK_FILE, RESULTS_LOCK_FILE}  # who held them is of no interest any more
    assert {name for name in files if name.startswith(".")} <= locks
