"""The estimate: cycles by kind and part, kernels by the roofline, on hand-written texts."""

import pytest

from tests.tools.device import hlo_texts
from tools.device import estimate, hlo, kinds
from tools.device.chips import TPUS

V5E = TPUS["v5e"]
WORDS = 30524


def one(line: str, fused: str = "") -> estimate.Estimate:
    """The estimate of a program of one instruction, with what it fuses."""
    inside = f"%f (p: f32[8]) -> f32[8] {{\n  %p = f32[8] parameter(0)\n  {fused}\n}}\n\n"
    entry = f"ENTRY %main (x: f32[8]) -> f32[8] {{\n  %x = f32[8] parameter(0)\n  {line}\n}}\n"
    return estimate.estimate(hlo.parse((inside if fused else "") + entry), V5E, WORDS)


def test_cycles_count_as_often_as_they_run_and_what_is_fused_does_not_count_again():
    found = estimate.estimate(hlo.parse(hlo_texts.LOOPS), V5E, WORDS)
    assert found.seconds * V5E.clock == pytest.approx(10 + 3 * (20 + 4 * 30))


def test_every_branch_of_a_condition_counts():
    found = estimate.estimate(hlo.parse(hlo_texts.BRANCHES), V5E, WORDS)
    assert found.seconds * V5E.clock == pytest.approx(7 + 11 + 13)
    assert set(found.kinds) == {"copies, converts, broadcasts"}


def test_a_program_without_estimates_takes_no_time():
    text = hlo_texts.LOOPS.replace("estimated_cycles", "other_cycles")
    assert estimate.estimate(hlo.parse(text), V5E, WORDS).seconds == 0


def test_kernels_count_by_the_larger_of_flop_and_bytes_in_a_row_of_their_own():
    found = estimate.estimate(hlo.parse(hlo_texts.KERNELS), V5E, WORDS)
    attend, silent = found.kernels
    assert (attend.name, attend.times, attend.bound) == ("attend", 2, "FLOP")
    assert attend.seconds == pytest.approx(2 * 39.4e9 / V5E.peak)
    assert (silent.name, silent.times) == ("silent", 1)
    assert silent.seconds == pytest.approx(2 * 2**21 / V5E.bandwidth)
    assert "no FLOP" in silent.bound
    assert list(found.kinds) == [estimate.KERNELS]
    assert found.parts["decoder"][0] == pytest.approx(39.4e9 / V5E.peak)
    assert found.prefetched == 2**21
    assert estimate.fused_kernels(hlo.parse(hlo_texts.KERNELS)) == {"attend": 2, "silent": 1}


def test_another_custom_call_is_no_kernel():
    text = hlo_texts.KERNELS.replace("tpu_custom_call", "AllocateBuffer")
    assert estimate.fused_kernels(hlo.parse(text)) == {}
    assert estimate.estimate(hlo.parse(text), V5E, WORDS).seconds == 0


def test_kernels_of_a_gpu_are_found_by_their_library():
    text = hlo_texts.KERNELS.replace("tpu_custom_call", "__cudnn$fmhaSoftmax")
    assert estimate.fused_kernels(hlo.parse(text)) == {"__cudnn$fmhaSoftmax": 3}


STEP = "jit(step)/jvp(CADA.decode)/text_encoder/while/body/closed_call/layers"
BACK = "jit(step)/transpose(jvp(CADA.encode_image))/image_encoder/while/body/blocks"
MASKED = "jit(step)/jvp(CADA.decode_masked)/attribute_decoder/bert"


@pytest.mark.parametrize(
    ("opcode", "fused", "path", "kind", "part"),
    [
        ("fusion", "convolution", f"{STEP}/attn/query/dot_general", "products of attention", 2),
        ("fusion", "dot", f"{BACK}/mlp/fc1/dot_general", "other products", 0),
        ("fusion", "exponential", f"{STEP}/attn/exp", "attention between its products", 2),
        ("fusion", "add", f"{BACK}/norm1/reduce_sum", "norms", 0),
        ("fusion", "add", f"{MASKED}/layers/mlp_norm/add", "norms", 3),
        ("fusion", "add", f"{BACK}/attn/key/reduce_sum", "bias gradients", 0),
        ("fusion", "dynamic-update-slice", f"{STEP}/squeeze", "scan stacking", 2),
        ("fusion", "add", "jit(step)/add", "optimizer", 5),
        ("fusion", "add", "jit(step)/optimizer/shard_map/mul", "optimizer", 5),
        ("fusion", "add", "jit(step)/and", "other", 6),
        ("fusion", "add", "jit(_encode_images)/mul", "other", 0),
        ("fusion", "xor", "jit(step)/jit(_threefry_split)/xor", "random bits", 6),
        ("copy", "", f"{STEP}/attn/transpose", "copies, converts, broadcasts", 2),
        ("fusion", "convert", f"{STEP}/mlp/convert", "copies, converts, broadcasts", 2),
        ("fusion", "multiply", f"{STEP}/mlp/mul", "other", 2),
        ("fusion", "dot", f"{MASKED}/word_embed/dot_general", "vocabulary", 4),
        ("fusion", "add", "jit(step)/jvp(CADA.encode_text)/text_encoder/add", "other", 1),
        ("fusion", "add", "jit(step)/jvp()/add", "other", 6),
    ],
)
def test_kind_and_part_are_read_off_the_path_and_what_is_fused(opcode, fused, path, kind, part):
    inner = f"ROOT %r = f32[8] {fused}(%p)" if fused else ""
    calls = "kind=kLoop, calls=%f, " if fused else ""
    tail = f"{calls}{hlo_texts.name(path)}, {hlo_texts.cycles(1500)}"
    found = one(f"ROOT %y = f32[8] {opcode}(%x), {tail}", inner)
    assert list(found.kinds) == [kind]
    assert list(found.parts) == [kinds.PARTS[part]]
    back = "transpose(" in path
    assert found.parts[kinds.PARTS[part]][back] == pytest.approx(1e-6)
    assert found.parts[kinds.PARTS[part]][not back] == 0


def test_a_table_of_words_is_known_by_its_size_where_it_has_no_path():
    text = f"ROOT %y = bf16[{WORDS},768] copy(%x), {hlo_texts.cycles(3)}"
    assert list(one(text).parts) == ["vocabulary"]
    assert list(one(text.replace(str(WORDS), "30000")).parts) == ["rest"]


def test_a_fusion_without_a_path_has_that_of_what_it_fuses():
    inner = f"ROOT %r = f32[8] add(%p, %p), {hlo_texts.name(STEP + '/mlp_norm/add')}"
    found = one(f"ROOT %y = f32[8] fusion(%x), calls=%f, {hlo_texts.cycles(3)}", inner)
    assert list(found.kinds) == ["norms"]


def test_the_rate_of_a_product_is_its_flop_over_its_cycles():
    assert estimate.product_rate(hlo.parse(hlo_texts.BRANCHES), 3100.0) == pytest.approx(100)
    assert estimate.product_rate(hlo.parse(hlo_texts.KERNELS), 1.0) == 0
