"""The benchmark tools run, agree with PyTorch, and count operations as the method's page does."""

import json
import os
import xml.etree.ElementTree

import pytest

from cada_jax.common.errors import UsageError
from cada_jax.models import layers
from tools import arguments
from tools.bench import flops, plot, retrieval, side, train, work


def run(tool, capsys, *flags):
    """(exit status, last line as JSON, everything printed)."""
    status = tool.main(["--size=small", "--repeats=1", "--threads=1", *flags])
    printed = capsys.readouterr().out
    return status, json.loads(printed.splitlines()[-1]), printed


def test_retrieval_beside_torch(capsys, torch, transformers):
    sizes = ("--queries=3", "--gallery=6", "--topk=4", "--batch=4", "--encode_batch=4")
    status, result, printed = run(retrieval, capsys, "--against=torch", *sizes)
    assert status == 0, printed
    assert result["ratio"]["rerank"] > 0
    assert 0 < result["score_difference"] <= 1e-5  # exactly 0 would mean nothing was compared
    assert result["gflop_per_query"] < result["released_gflop_per_query"]


def test_a_training_step(capsys):
    flags = ("--depth=1", "--batch=2", "--remat=full")
    status, result, printed = run(train, capsys, "--parts", "train_step", *flags)
    assert status == 0, printed
    figures = result["parts"]["train_step"]
    assert figures["seconds"] > 0 and figures["compile_seconds"] > 0
    assert figures["gflop"] < figures["released_gflop"]
    assert "train_step" in printed and "MFU" in printed and "remat full" in printed


def test_remat_reaches_the_configuration():
    settings = work.Settings("small", "bfloat16", depth=3, remat="light")
    config = work.make_config(settings)
    assert (config.model.remat, config.model.dtype) == ("light", "bfloat16")
    assert config.model.image.depth == config.model.text.depth == 3


def test_a_process_that_cannot_start_is_a_bug_with_its_traceback():
    with pytest.raises(RuntimeError, match="no_such_module"):
        side.Side("no_such_module:Nothing", {})


class Refusing:
    """What another process serves in the tests below."""

    def refuse(self):
        raise UsageError("not like this")

    def use_all_memory(self):
        raise MemoryError

    def die(self):
        os._exit(7)


@pytest.mark.parametrize(
    ("method", "said"),
    [("refuse", "not like this"), ("use_all_memory", "smaller --batch"), ("die", "status 7")],
)
def test_what_another_process_cannot_do_is_one_line(method, said):
    there = side.Side(f"{__name__}:Refusing", {})
    try:
        with pytest.raises(UsageError, match=said) as refused:
            there.call(method)
    finally:
        there.close()
    assert "\n" not in str(refused.value)


def test_remat_has_the_choices_that_the_network_has():
    assert train.REMATS == layers.REMATS


def test_a_drawing_may_be_drawn_again_and_holds_every_series(tmp_path):
    path = tmp_path / "cost.svg"
    for _ in range(2):
        plot.plot(path, "Cost", {"pairs": [(1.0, 2.0), (2.0, 4.0)], "images": [(3.0, 1.0)]})
        assert arguments.drawing(plot.MARK)(str(path)) == path
    drawn = path.read_text()
    assert drawn.count("<polyline") == 2 and "pairs" in drawn and "images" in drawn
    xml.etree.ElementTree.fromstring(drawn)


def test_operations_of_the_full_model():
    """A pair takes about 131 GFLOP forward, three times that to train, on the released schedule."""
    config = work.make_config(work.Settings("full"))
    assert flops.train_step(config, 1, 73, shared=False) == pytest.approx(393e9, rel=0.03)
    # Sharing keys and values saves two of three times 2 x 197 x 2 x 768^2 a layer, both ways.
    saved = 3 * 2 * 12 * 4 * 197 * 768**2
    plain, shared = (flops.train_step(config, 1, 73, shared=s) for s in (False, True))
    assert plain - shared == saved
    plain = flops.decode(config, 2, 40, 1)
    assert flops.decode_packed(config, 2, 40, 40, 1) == plain  # all wanted: nothing left out
    last = plain - flops.decode_packed(config, 2, 40, 1, 1)
    assert 0.8 < last * 12 / flops.decode(config, 2, 40, 0) < 0.9
