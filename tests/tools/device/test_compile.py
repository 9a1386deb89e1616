"""The command: programs described on a mesh, bad input, and a TPU's program where libtpu is."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from cada_jax.common.errors import UsageError
from tests.conftest import REPOSITORY
from tests.tools.device import hlo_texts
from tools.arguments import Parser
from tools.device import compile as compile_lib
from tools.device import programs, report, topology
from tools.device.chips import TPUS
from tools.device.estimate import estimate
from tools.device.hlo import parse
from tools.device.memory import GIB, Memory
from tools.device.programs import Evaluation, Program


def flags_of(*argv: str):
    """The flags of a command line."""
    parser = Parser("tools.device.compile", None)
    compile_lib.add_flags(parser)
    return parser.flags(argv)


def test_the_flags_give_the_configuration_with_its_mesh():
    flags = flags_of(
        "--config=rstp:large", "--mesh=2x4x1", "--set", "train.epochs=3", "model.remat=full"
    )
    config = compile_lib.read_config(flags, topology.find_target("cpu"))
    assert tuple(config.mesh[axis] for axis in ("data", "fsdp", "tensor")) == (2, 4, 1)
    assert (config.train.epochs, config.model.remat) == (3, "full")
    title = compile_lib.title(flags)
    assert title == "rstp:large train.epochs=3 model.remat=full on cpu, mesh 2x4x1"


def test_a_mesh_that_does_not_fit_the_batch_is_refused(tiny_config):
    tiny_config.train.batch_size = 12
    with pytest.raises(UsageError, match="not a multiple of 8"):
        programs.train_program(tiny_config)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--device=v9:1"], "no such device is known; known: v5e:2x4"),
        (["--device=v5e:2x3"], "a v5e slice is"),
        (["--device=v5e:2x4", "--mesh=4x1x1"], "4 devices, --device=v5e:2x4 has 8"),
        (["--device=h100", "--mesh=2x1x1"], "2 devices, --device=h100 has 1"),
        (["--mesh=0x1x1"], "expected DATAxFSDPxTENSOR"),
        (["--config=no_such"], "no_such"),
        (["--set", "model.remat=half"], "model.remat"),
        (["--program=serve"], "invalid choice: 'serve'"),
        (["--rows=0"], "expected a whole number"),
        (["--hlo=/no/such/folder/x.hlo"], "--hlo=/no/such/folder/x.hlo: No such file"),
        (["--from_hlo=/no/such.hlo"], "--from_hlo=/no/such.hlo: No such file"),
        (["--hlo=/tmp"], "--hlo=/tmp: Is a directory"),
        ([f"--from_hlo={REPOSITORY}/README.md", "--no_compile"], "--from_hlo compiles nothing"),
        (["--devise=cpu"], "did you mean --device"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_before_anything_is_compiled(argv, says, capsys):
    assert compile_lib.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and says in error


def test_a_missing_extra_is_one_line_and_exit_code_2(capsys, monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda module: None)
    assert compile_lib.main(["--device=v5e:2x4"]) == 2
    assert "pip install -e '.[aot-tpu]'" in capsys.readouterr().err


def test_a_file_that_was_there_is_not_changed_by_the_check_and_none_is_left(tmp_path):
    old, new = tmp_path / "old.hlo", tmp_path / "new.hlo"
    old.write_text("kept")
    compile_lib.check_files(flags_of(f"--hlo={old}"))
    compile_lib.check_files(flags_of(f"--hlo={new}"))
    assert old.read_text() == "kept" and not new.exists()


@pytest.mark.parametrize("name", ["encode", "rerank"])
def test_programs_of_an_evaluation_are_described_without_numbers(tiny_config, name):
    size = Evaluation(gallery=64, queries=64, rerank=4, caption_tokens=12)
    for program in programs.describe(name, tiny_config, None, size):
        lowered = program.lower()
        assert program.flops > 0 and program.items > 0
        assert size.runs_over(program) > 0
        assert "while" in lowered.as_text() or "dot" in lowered.as_text()


def test_an_evaluation_of_twice_the_captions_takes_twice_the_runs(tiny_config):
    [_, captions] = programs.encode_programs(tiny_config)
    whole, half = Evaluation(queries=200), Evaluation(queries=100)
    assert whole.runs_over(captions) == 2 * half.runs_over(captions)


# What a program is called and asks for; nothing of it is on a device.
IMAGES = Program("encode images", None, None, None, lambda: None, 1e9, 64, "images")


def made(text: str, **changes) -> report.Result:
    """A result read off a text, for one v5e."""
    found = {"program": IMAGES, "devices": 1, "chip": TPUS["v5e"], "memory": None, "counted": {}}
    found |= {"estimate": estimate(parse(text), TPUS["v5e"], 200), "product": 1e14}
    return report.Result(**(found | changes))


def test_the_report_says_what_fits_what_is_estimated_and_what_is_left_out():
    result = made(hlo_texts.KERNELS, memory=Memory(4 * GIB, 8 * GIB))
    text = report.text(result, rows=3)
    assert "fits TPU v5e" in text and "12.000 GiB" in text
    for part in ("leaves out: waiting for collectives, the host", "a bound from below", "attend"):
        assert part in text
    values = report.values(result, Evaluation(gallery=128))
    assert json.loads(json.dumps(values))["fits"] is True
    assert values["estimate"]["ms"] == pytest.approx(1e3 * result.estimate.seconds)
    assert values["evaluation"]["bound"].startswith("Pallas")
    share = result.program.flops / 1e14 / result.estimate.seconds
    assert values["estimate"]["share_of_product"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("used", "fits", "says"),
    [
        (Memory(10 * GIB, 5 * GIB), True, "fits TPU v5e"),
        (Memory(10 * GIB, 7 * GIB), False, "does not fit TPU v5e"),
        (Memory(needed=20 * GIB, available=15 * GIB, refused=True), False, "20.00 GiB of 15.00"),
        (Memory(refused=True), False, "it needs more"),
    ],
)
def test_memory_is_held_against_the_chips(used, fits, says):
    result = made(hlo_texts.LOOPS, memory=used)
    assert result.fits is fits
    assert says in report.text(result, rows=1)


def test_a_compiler_that_runs_out_of_memory_gives_a_row_and_no_crash():
    import jax

    class Lowered:
        def compile(self):
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20G of 15.75G hbm"
            )

    class Failing:
        def compile(self):
            raise jax.errors.JaxRuntimeError("INTERNAL: a bug of the compiler")

    text, used = compile_lib.compile_text(dataclasses.replace(IMAGES, lower=Lowered))
    assert text is None and used == Memory(0, 0, 20 * GIB, int(15.75 * GIB), True)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        compile_lib.compile_text(dataclasses.replace(IMAGES, lower=Failing))


def test_a_written_program_is_counted_again_without_compiling(tmp_path):
    file = tmp_path / "step.hlo"
    file.write_text(hlo_texts.KERNELS)
    argv = ["--device=v5e:2x4", "--config=synthetic", f"--from_hlo={file}", "--json"]
    [found] = json.loads(run_command_line(argv))
    assert found["kernels"] == {"attend": 2, "silent": 1} and found["memory"] is None
    assert (found["device"], found["mesh"]) == ("v5e:2x4", [8, 1, 1])
    assert found["chip"] == "TPU v5e" and found["estimate"]["ms"] > 0


def test_a_file_that_holds_no_program_is_one_line(tmp_path, capsys):
    file = tmp_path / "step.hlo"
    file.write_text("nothing")
    with pytest.raises(UsageError, match="no ENTRY"):
        compile_lib.read_module(file.read_text(), str(file))


def run_command_line(argv: list[str], **environment: str) -> str:
    """What the tool prints in a process of its own, which may set JAX up as it needs."""
    command = [sys.executable, "-m", "tools.device.compile", *argv]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_FLAGS", "JAX_"))}
    done = subprocess.run(
        command, env=kept | environment, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu, the TPU's compiler, is not installed: pip install -e '.[aot-tpu]'",
)


@needs_libtpu
def test_a_tpus_compiler_estimates_a_program_without_a_tpu():
    argv = ["--device=v5e:2x4", "--config=synthetic", "--program=encode", "--json"]
    images, captions = json.loads(run_command_line([*argv, "--set", "model.dtype=bfloat16"]))
    for found in (images, captions):
        assert found["fits"] and found["devices"] == 8
        assert not found["estimate"]["loops_counted_once"]
        assert 0 < found["ideal_ms"] < found["estimate"]["ms"] < 100
    assert 0.8 * 197e12 < images["estimate"]["product_flops"] < 197e12


# Milliseconds that the compiler estimated for the step below when this was written, and what a
# later one may take.
STEP, SLACK = 9.4, 1.05


@needs_libtpu
def test_a_tpus_step_has_its_kernels_and_takes_no_longer_than_it_did():
    """Full width, one layer of each kind: the estimate is deterministic, so the bound is tight."""
    argv = ["--device=v5e:2x4", "--config=rstp", "--json", "--set", "model.dtype=bfloat16"]
    argv += ["model.image.depth=1", "model.text.depth=1"]
    [found] = json.loads(run_command_line(argv))
    assert found["fits"]
    assert {"attention_forward", "attention_backward"} <= set(found["kernels"])
    assert 0.8 * STEP < found["estimate"]["ms"] < SLACK * STEP


def test_only_counting_prints_the_count():
    text = run_command_line(["--config=synthetic", "--mesh=2x2x1", "--no_compile"])
    assert "at once, by count" in text and "fits, by count: 16 GiB yes" in text
    assert "compiled" not in text
