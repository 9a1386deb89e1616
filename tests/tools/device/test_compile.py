"""The command: programs described on a mesh, and real ones where a TPU's or GPU's compiler is."""

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
from tools.device import compile as compile_lib
from tools.device import programs, report
from tools.device.chips import TPUS
from tools.device.estimate import estimate
from tools.device.hlo import parse
from tools.device.memory import GIB, Memory
from tools.device.programs import Evaluation, Program

SIZE = Evaluation(gallery=64, queries=64, rerank=4, caption_tokens=12)


def test_a_mesh_that_does_not_fit_the_batch_is_refused(tiny_config):
    tiny_config.train.batch_size = 12
    with pytest.raises(UsageError, match="not a multiple of 8"):
        programs.train_program(tiny_config)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--device=v9:1"], "no such device is known; known: v5e:2x4"),
        (["--device=v5e:2x4", "--mesh=4x1x1"], "4 devices, --device=v5e:2x4 has 8"),
        (["--hlo=/no/such/folder/x.hlo"], "/no/such/folder/x.hlo"),
        (["--from_hlo=/no/such.hlo", "--config=synthetic"], "/no/such.hlo"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_before_anything_is_compiled(argv, says):
    done = process(argv)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert says in done.stderr


@pytest.mark.parametrize("name", ["encode", "rerank", "search"])
def test_programs_of_an_evaluation_are_described_without_numbers(tiny_config, name):
    for program in programs.describe(name, tiny_config, None, SIZE):
        assert program.flops > 0 and program.items > 0
        assert SIZE.runs_over(program) > 0
        assert "dot" in program.lower().as_text()


def test_an_evaluation_of_twice_the_captions_takes_twice_the_runs(tiny_config):
    [_, captions] = programs.encode_programs(tiny_config)
    whole, half = Evaluation(queries=200), Evaluation(queries=100)
    assert whole.runs_over(captions) == 2 * half.runs_over(captions)


# What a program is called and asks for; nothing of it is on a device.
IMAGES = Program("encode images", None, None, lambda: None, 1e9, 64, "images")


def made(text: str, memory: Memory) -> report.Result:
    """A result read off a text, for one v5e."""
    found = estimate(parse(text), TPUS["v5e"], 200)
    return report.Result(IMAGES, 1, TPUS["v5e"], memory, [], found, 1e14)


def test_the_report_says_what_fits_what_is_estimated_and_what_is_left_out():
    result = made(hlo_texts.KERNELS, Memory(4 * GIB, 8 * GIB))
    text = report.text(result, rows=3)
    for part in ("fits TPU v5e", "12.000 GiB", "Left out: the host", "from below", "attend"):
        assert part in text
    values = json.loads(json.dumps(report.values(result, Evaluation(gallery=128))))
    assert values["fits"] is True
    assert values["estimate"]["ms"] == pytest.approx(1e3 * result.estimate.seconds)
    assert values["evaluation"]["bound"].startswith("Pallas")
    share = result.program.flops / 1e14 / result.estimate.seconds
    assert values["estimate"]["share_of_product"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("used", "fits", "says"),
    [
        (Memory(10 * GIB, 7 * GIB), False, "does not fit TPU v5e"),
        (Memory(needed=20 * GIB, available=15 * GIB, refused=True), False, "20.00 GiB of 15.00"),
        (Memory(refused=True), False, "it needs more"),
    ],
)
def test_memory_is_held_against_the_chips(used, fits, says):
    result = made(hlo_texts.LOOPS, used)
    assert result.fits is fits and says in report.text(result, rows=1)


def test_a_compiler_that_runs_out_of_memory_gives_a_row_and_no_crash():
    import jax

    def failing(message):
        class Lowered:
            def compile(self, **options):
                raise jax.errors.JaxRuntimeError(message)

        return dataclasses.replace(IMAGES, lower=Lowered)

    full = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20G of 15.75G hbm"
    text, used = compile_lib.compiled(failing(full), {})
    assert text is None and used == Memory(0, 0, 20 * GIB, int(15.75 * GIB), True)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        compile_lib.compiled(failing("INTERNAL: a bug of the compiler"), {})


def test_a_written_program_is_estimated_again_without_compiling(tmp_path):
    file = tmp_path / "step.hlo"
    for device, text, kernel in (("v5e:2x4", "KERNELS", "attend"), ("h100:8", "GPU", "attend")):
        file.write_text(getattr(hlo_texts, text))
        argv = [f"--device={device}", "--config=synthetic", f"--from_hlo={file}", "--json"]
        [found] = run_command_line(argv)
        assert found["memory"] is None and found["mesh"] == [8, 1, 1]
        assert found["estimate"]["ms"] > 0 and found["estimate"]["kernels"][0]["name"] == kernel


def process(argv: list[str]) -> subprocess.CompletedProcess:
    """The tool in a process of its own, which may set JAX up as it needs."""
    command = [sys.executable, "-m", "tools.device.compile", *argv]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_FLAGS", "JAX_"))}
    return subprocess.run(command, env=kept, cwd=REPOSITORY, capture_output=True, text=True)


def run_command_line(argv: list[str]) -> list[dict]:
    """What it prints as JSON."""
    done = process(argv)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False


needs_libtpu = pytest.mark.skipif(
    not found("libtpu"),
    reason="libtpu, the TPU's compiler, is not installed: pip install -e '.[aot-tpu]'",
)
needs_cuda = pytest.mark.skipif(
    not found("jax_plugins.xla_cuda13"),
    reason="the GPU's compiler is not installed: pip install -e '.[aot-gpu]'",
)
BFLOAT16 = ["--json", "--set", "model.dtype=bfloat16"]
ONE_LAYER = ["model.image.depth=1", "model.text.depth=1"]
TWO_LAYERS = ["model.image.depth=2", "model.text.depth=2"]


@needs_libtpu
def test_tpus_compiler_estimates_a_program_without_a_tpu():
    argv = ["--device=v5e:2x4", "--config=synthetic", "--program=encode", *BFLOAT16]
    for found in run_command_line(argv):
        assert found["fits"] and found["devices"] == 8
        assert not found["estimate"]["loops_counted_once"]
        assert 0 < found["ideal_ms"] < found["estimate"]["ms"] < 100
        assert 0.8 * 197e12 < found["estimate"]["product_flops"] < 197e12


# Milliseconds estimated for one layer of each kind, on a GPU for two, at full width when this was
# written, and what a later one may take. The estimate is deterministic, so the bound is tight.
TPU_STEP, GPU_STEP, SLACK = 11.5, 23.2, 1.05


@needs_libtpu
def test_tpus_step_has_its_kernels_and_takes_no_longer_than_it_did():
    [found] = run_command_line(["--device=v5e:2x4", "--config=rstp", *BFLOAT16, *ONE_LAYER])
    kernels = {kernel["name"] for kernel in found["estimate"]["kernels"]}
    assert found["fits"] and {"attention_forward", "attention_backward"} <= kernels
    assert 0.8 * TPU_STEP < found["estimate"]["ms"] < SLACK * TPU_STEP


@needs_cuda
def test_gpus_step_has_its_kernels_and_takes_no_longer_than_it_did():
    [found] = run_command_line(["--device=h100", "--config=rstp", *BFLOAT16, *TWO_LAYERS])
    kernels = {kernel["name"] for kernel in found["estimate"]["kernels"]}
    assert {"attention_forward", "norm_backward", "gelu_backward"} <= kernels
    assert found["fits"] and found["estimate"]["launches"] > 100
    assert 0.95 * 780e12 < found["estimate"]["product_flops"] < 1.05 * 780e12
    assert 0.8 * GPU_STEP < found["estimate"]["ms"] < SLACK * GPU_STEP


@needs_cuda
def test_gpus_card_that_the_model_does_not_know_has_an_estimate_too():
    argv = ["--device=rtx4090", "--config=synthetic", "--program=encode", *BFLOAT16]
    for found in run_command_line(argv):
        assert found["fits"] and 0 < found["ideal_ms"] < found["estimate"]["ms"] < 100
