"""The attention kernels by the compiler's schedule: which there are, and what its files say."""

import pytest

from cada_jax.common.errors import UsageError
from tools.device import kernels
from tools.device.chips import TPUS

SCHEDULE = "Schedule analysis:\n\ttotal scheduled bundles:    {}\n\tempty scheduled bundles:    8\n"


def write(folder, which, bundles, place=1):
    name = f"17-jvp_attention_{which}_.{place}-71-schedule-analysis_final_bundles.txt"
    (folder / name).write_text(SCHEDULE.format(bundles))


def test_a_steps_attentions_are_those_of_its_parts(load_config):
    image, text, itself, seen, masked, of_image = kernels.cases(load_config("rstp"), 8)
    assert (image.rows, image.tokens, image.seen, image.bias) == (15, 197, 197, 0)
    assert (text.rows, text.tokens, text.seen, text.bias) == (15, 73, 73, 1)
    assert (itself.rows, itself.images, itself.seen) == (45, 45, 73)
    assert (seen.rows, seen.images, seen.tokens, seen.seen) == (45, 30, 73, 197)
    assert masked.bias == 73  # it is causal
    assert (of_image.rows, of_image.seen, of_image.bias) == (15, 197, 0)


def test_the_largest_schedule_of_each_pass_counts(tmp_path):
    write(tmp_path, "forward", 1000)
    write(tmp_path, "backward", 3000)
    write(tmp_path, "backward", 200, place=2)
    assert kernels.read_bundles(tmp_path) == {"forward": 1000, "backward": 3000}


def test_a_compiler_that_writes_no_schedule_is_refused_with_the_one_to_take(tmp_path):
    write(tmp_path, "forward", 1000)
    with pytest.raises(UsageError, match="libtpu 0.0.42"):
        kernels.read_bundles(tmp_path)


def test_the_roofline_is_the_larger_of_arithmetic_and_memory():
    chip = TPUS["v5e"]
    long = kernels.Case("image encoder", 1, 1, 4096, 1, 4096, 0)
    flops = 2 * 2 * 4096 * 4096 * 768
    assert kernels.roofline(long, 768, "forward", chip) == pytest.approx(flops / chip.peak)
    short = kernels.Case("text encoder", 1, 1, 8, 1, 8, 1)
    size = 2 * 4 * 8 * 768
    assert kernels.roofline(short, 768, "forward", chip) == pytest.approx(size / chip.bandwidth)
    assert kernels.roofline(long, 768, "backward", chip) == pytest.approx(2.5 * flops / chip.peak)
