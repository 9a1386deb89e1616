"""The benchmark tools run, agree with PyTorch, and count operations as the method's page does."""

import json
import pathlib

import pytest

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(autouse=True)
def tools_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))


def run(tool, monkeypatch, capsys, *flags):
    """(exit status, last line as JSON, everything printed)."""
    module = __import__(tool)
    monkeypatch.setattr("sys.argv", [tool, "--size=small", "--repeats=1", "--threads=1", *flags])
    status = module.main()
    printed = capsys.readouterr().out
    return status, json.loads(printed.splitlines()[-1]), printed


def test_retrieval_beside_torch(monkeypatch, capsys, torch, transformers):
    sizes = ("--queries=3", "--gallery=6", "--topk=4", "--batch=4", "--encode_batch=4")
    status, result, printed = run("bench_retrieval", monkeypatch, capsys, "--against=torch", *sizes)
    assert status == 0, printed
    assert result["ratio"]["rerank"] > 0
    assert 0 < result["score_difference"] <= 1e-5  # exactly 0 would mean nothing was compared
    assert result["gflop_per_query"] < result["released_gflop_per_query"]


def test_a_training_step(monkeypatch, capsys):
    status, result, printed = run(
        "bench_train", monkeypatch, capsys, "--parts", "train_step", "--depth=1", "--batch=2"
    )
    assert status == 0, printed
    figures = result["parts"]["train_step"]
    assert figures["seconds"] > 0 and figures["compile_seconds"] > 0
    assert figures["gflop"] < figures["released_gflop"]
    assert "train_step" in printed and "MFU" in printed


@pytest.mark.parametrize("tool", ["bench_train", "bench_retrieval"])
def test_what_cannot_run_is_one_clear_error(tool, monkeypatch, capsys):
    from bench.side import Side
    from cada_jax.common.errors import UsageError

    with pytest.raises(UsageError, match="no_such_module"):
        Side("no_such_module:Nothing", {})
    module = __import__(tool)
    monkeypatch.setattr("sys.argv", [tool, "--against=tensorflow"])
    with pytest.raises(SystemExit):
        module.main()


def test_operations_of_the_full_model():
    """A pair takes about 131 GFLOP forward, three times that to train, on the released schedule."""
    from bench import flops, work

    config = work.make_config("full")
    assert flops.train_step(config, 1, 73, shared=False) == pytest.approx(393e9, rel=0.03)
    # Sharing keys and values saves two of three times 2 x 197 x 2 x 768^2 a layer, both ways.
    saved = 3 * 2 * 12 * 4 * 197 * 768**2
    plain, shared = (flops.train_step(config, 1, 73, shared=s) for s in (False, True))
    assert plain - shared == saved
    plain = flops.decode(config, 2, 40, 1)
    assert flops.decode_packed(config, 2, 40, 40, 1) == plain  # all wanted: nothing left out
    last = plain - flops.decode_packed(config, 2, 40, 1, 1)
    assert 0.8 < last * 12 / flops.decode(config, 2, 40, 0) < 0.9
