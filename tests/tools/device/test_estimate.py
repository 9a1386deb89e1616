"""The estimate: cycles by kind and part, kernels by the roofline, on hand-written texts."""

import pytest

from tests.tools.device import hlo_texts
from tools.device import estimate, hlo, kinds
from tools.device.chips import GPUS, TPUS

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
    assert silent.seconds == pytest.approx(2 * 2**21 / V5E.bandwidth)
    assert "no FLOP" in silent.bound
    assert list(found.kinds) == [estimate.KERNELS]
    assert found.parts["decoder"][0] == pytest.approx(39.4e9 / V5E.peak)
    assert found.prefetched == 2**21
    other = hlo_texts.KERNELS.replace("tpu_custom_call", "AllocateBuffer")
    assert estimate.estimate(hlo.parse(other), V5E, WORDS).seconds == 0


def gpu(text: str = hlo_texts.GPU, device: str = "h100", **links: int) -> estimate.Estimate:
    links = estimate.Links(**({"devices": 8, "together": 8} | links))
    return estimate.estimate(hlo.parse(text), GPUS[device], WORDS, links)


def test_a_gpus_estimate_is_read_from_the_entry_that_counts_for_each_kind():
    kinds_ms = {kind: 1e6 * seconds for kind, seconds in gpu().kinds.items()}
    assert kinds_ms["other products"] == pytest.approx(100)
    assert kinds_ms["other"] == pytest.approx(20 + 10)
    assert kinds_ms[estimate.KERNELS] == pytest.approx(1e3, rel=1e-3)  # its operations' rate
    copied = 1e6 * 2 * 2**21 / 3352e9
    assert kinds_ms[estimate.UNESTIMATED] == pytest.approx(copied)
    assert kinds_ms[estimate.LAUNCHES] == pytest.approx(5 * 2.5)
    assert sum(kinds_ms.values()) == pytest.approx(1e6 * gpu().seconds)


def test_what_a_gpus_compiler_gives_no_figure_for_is_named_and_counts():
    [kernel], [copy] = gpu().kernels, gpu().unestimated
    assert (kernel.name, kernel.bound, copy.name) == ("attend", "operations", "copy")
    silent = hlo_texts.GPU.replace("exec_time_us", "no_time")
    assert {c.name for c in gpu(silent).unestimated} == {"copy", "fusion", "__cublas$lt$matmul"}
    assert all(c.seconds > 0 for c in gpu(silent).unestimated)


def test_products_of_a_card_that_the_model_does_not_know_have_an_h100s_share_of_its_peak():
    products = {name: gpu(device=name).kinds["other products"] for name in ("h100", "a100", "l4")}
    assert products["a100"] / products["h100"] == pytest.approx(989 / 312)
    slow = hlo_texts.GPU.replace('us":100,', 'us":1,')
    assert gpu(slow, "l4").kinds["other products"] >= 2 * 2**21 / 300e9  # its bytes


def test_a_collective_that_is_started_before_waits_only_for_what_is_not_hidden():
    size = 2 * 10_350_000
    sending = 2 * size * 7 / 8 / 450e9  # 80 us; 30 of computation stand between start and end
    assert gpu().sending == pytest.approx(sending)
    assert gpu().kinds[estimate.WAITING] == pytest.approx(sending - 30e-6)
    over_two = gpu(together=4)  # half the devices in each of two machines
    assert over_two.sending == pytest.approx(2 * size * (3 / 4 / 450e9 + 1 / 8 / 50e9))
    at_once = hlo_texts.GPU.replace("all-reduce-start(", "all-reduce(")
    assert gpu(at_once).kinds[estimate.WAITING] == pytest.approx(sending)


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


def test_the_rate_of_a_product_is_its_flop_over_its_time():
    rate = estimate.product_rate(hlo.parse(hlo_texts.BRANCHES), 3100.0, V5E)
    assert rate == pytest.approx(100 * V5E.clock)
    assert estimate.product_rate(hlo.parse(hlo_texts.KERNELS), 1.0, V5E) == 0
