"""The same numbers as PyTorch: the released code's golden ones, and Hugging Face's network."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from cada_jax.common.errors import UsageError
from tools import check_parity
from tools.parity import hub, whole_training
from tools.parity.cases import CASES as ALL_CASES
from tools.parity.cases import check_golden
from tools.parity.golden import Golden, as_released
from tools.parity.hub import compare_networks, random_tokens
from tools.parity.hub_network import blip_config, their_outputs
from tools.parity.table import Table

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
CASES = {  # case -> rows it must have at least, so that an empty comparison cannot pass
    "a_forward": 19,
    "a_posembed": 4,
    "b_losses": 160,
    "b_degenerate": 15,
    "b_hardneg": 12,
    "c_train": 50,
    "d_eval": 18,
    "d_metrics": 12,
    "f_world2": 160,
}


@pytest.fixture(scope="module")
def table():
    return check_golden(str(GOLDEN), "float32", cases=list(CASES))


@pytest.mark.parametrize("case", CASES)
def test_golden_case(table, case):
    rows = [row for row in table.rows if row.case == case]
    assert len(rows) >= CASES[case]
    failed = [row for row in rows if row.status not in ("pass", "differs")]
    assert not failed, failed
    # What differs on purpose says so, and is the exception.
    assert sum(row.status == "differs" for row in rows) <= len(rows) / 2
    assert all(row.note for row in rows if row.status == "differs")


def training_rows(**options):
    table = Table()
    whole_training.compare(Golden(str(GOLDEN)), table, **options)
    return table.rows


def test_a_training_as_released_has_its_losses_and_takes_its_negatives():
    """The first steps; in the eighth 12 of 64 texts take batch row 0."""
    rows = training_rows(runs=["released"], steps=8)
    assert len(rows) == 7 and all(row.status == "pass" for row in rows), rows


@pytest.mark.slow
def test_whole_trainings_have_the_losses_and_negatives_of_the_released_code():
    rows = training_rows()
    assert len([row for row in rows if row.status == "pass"]) == 21
    ties = [row for row in rows if row.status != "pass"]
    assert all(row.quantity.startswith("plain64") and row.note for row in ties)


def test_every_parameter_has_a_gradient_row(table, golden):
    names = json.loads((golden / "weights_tiny.json").read_text())["extra"]["named_parameters"]
    compared = " ".join(row.quantity for row in table.rows if row.case == "b_losses")
    assert all(f"grad {name}" in compared for name in names)


def test_a_wrong_number_fails_and_absent_cases_are_named(golden, tmp_path, capsys):
    for name in ("weights_tiny.npz", "weights_tiny.json"):
        shutil.copy(golden / name, tmp_path)
    with np.load(golden / "d_metrics.npz") as file:
        arrays = dict(file)
    arrays["rnd2/mAP"] = arrays["rnd2/mAP"] + 1e-3
    np.savez(tmp_path / "d_metrics.npz", **arrays)
    assert check_parity.main([f"--golden={tmp_path}"]) == 1
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if "rnd2/mAP" in line and "FAIL" in line]
    assert "1 fail" in printed and "absent: a_forward, a_posembed, b_losses" in printed


def test_a_folder_without_weights_or_with_a_truncated_file_is_refused(golden, tmp_path, capsys):
    assert check_parity.main([f"--golden={tmp_path}"]) == 2
    assert "weights_tiny.npz" in capsys.readouterr().err
    (tmp_path / "weights_tiny.npz").write_bytes((golden / "weights_tiny.npz").read_bytes()[:5000])
    assert check_parity.main([f"--golden={tmp_path}"]) == 2
    assert f"{tmp_path}/weights_tiny.npz: expected golden numbers" in capsys.readouterr().err


def test_a_case_with_nothing_to_compare_is_refused(golden, tmp_path):
    for name in ("weights_tiny.npz", "weights_tiny.json"):
        shutil.copy(golden / name, tmp_path)
    np.savez(tmp_path / "d_metrics.npz")
    with pytest.raises(UsageError, match="holds nothing to compare"):
        check_golden(str(tmp_path), "float32")


def test_photographs_and_captions_of_ones_own_are_read(unequal, tmp_path):
    (tmp_path / "captions.txt").write_text("a red coat\n\nA Coat\n", encoding="utf-8-sig")
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] a red coat".split()
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    ids = hub.read_captions(tmp_path / "captions.txt", tmp_path / "vocab.txt", unequal)
    assert ids[:, :6].tolist() == [[2, 5, 6, 7, 3, 0], [2, 5, 7, 3, 0, 0]]
    Image.new("RGB", (30, 40), (255, 255, 255)).save(tmp_path / "a.png")
    images = hub.read_images(tmp_path, (24, 24))
    assert images.shape == (1, 24, 24, 3) and images.min() > 1.9  # white, normalised


@pytest.fixture
def unequal(load_config):
    """A config whose image side is wider and deeper than its text side."""
    config = load_config("default")
    config.data.image_size, config.data.max_length = (24, 24), 13
    config.model.image.update(patch=(8, 8), width=96, depth=3, heads=6, mlp_dim=160)
    config.model.text.update(
        vocab_size=150, width=64, depth=2, heads=4, mlp_dim=128, max_positions=40
    )
    config.model.embed_dim = 24
    config.model.tokens.update(dec=148, enc=149)
    return config


@pytest.fixture
def hub_tensors(transformers, torch, unequal):
    """Random weights of Hugging Face's two classes, under their own names."""
    torch.manual_seed(0)
    blip = blip_config(as_released(unequal))
    tensors = {}
    for kind in (transformers.BlipForConditionalGeneration, transformers.BlipForImageTextRetrieval):
        state = kind(blip).state_dict()
        # Away from the initial zeros and ones, where a mixed-up bias or norm would not show.
        tensors |= {n: (x + 0.05 * torch.randn_like(x)).numpy() for n, x in state.items()}
    word = "text_decoder.bert.embeddings.word_embeddings.weight"
    tensors["text_decoder.cls.predictions.decoder.weight"] = tensors[word]
    tensors["text_decoder.cls.predictions.decoder.bias"] = tensors[
        "text_decoder.cls.predictions.bias"
    ]
    return tensors


def compare(unequal, tensors, dtype="float32"):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((3, 24, 24, 3)).astype(np.float32)
    table = Table()
    unequal.model.dtype = dtype
    compare_networks(table, unequal, tensors, images, random_tokens(rng, unequal, 3))
    return table


def test_hugging_faces_network_gives_the_same_numbers(unequal, hub_tensors):
    table = compare(unequal, hub_tensors)
    assert {row.case for row in table.rows} == {
        "image encoder",
        "text encoder",
        "decoder",
        "attribute decoder",
    }
    assert len(table.rows) == 3 + 2 + 2 + 1 + 2 + 1 + 2 + 1
    assert not table.failed, str(table)


def test_the_first_diverging_layer_is_named(unequal, hub_tensors, capsys):
    # bfloat16 against the float32 bound diverges at once.
    assert compare(unequal, hub_tensors, "bfloat16").failed
    assert "First to diverge: layer 0 of the image encoder" in capsys.readouterr().out


def test_a_golden_folder_of_other_sizes(unequal, hub_tensors, tmp_path):
    """A folder in the golden format with image width 96 and text width 64, made by torch."""
    from cada_jax.checkpoints.torch.names import POSITION_IDS, translate

    rng = np.random.default_rng(1)
    images = rng.standard_normal((3, 24, 24, 3)).astype(np.float32)
    token_ids = random_tokens(rng, unequal, 3)
    theirs = their_outputs(unequal, hub_tensors, images, token_ids)
    weights = {translate(n, "hf", "cada") or n: x for n, x in hub_tensors.items()}
    local = {"weight": rng.standard_normal((2, 64)), "bias": np.zeros(2)}
    weights |= {f"itm_local_head.{n}": x.astype(np.float32) for n, x in local.items()}
    weights |= {name: np.arange(40)[None] for name in POSITION_IDS}
    np.savez(tmp_path / "weights_tiny.npz", **weights)
    tokens = {"pad": 0, "cls": 101, "sep": 102, "mask": 103, "dec_bos": 148, "enc": 149}
    extra = {
        "tiny": {"image_size": 24, "patch": 8, "heads": 6},
        "text": {"num_attention_heads": 4},
        "tokens": tokens,
    }
    (tmp_path / "weights_tiny.json").write_text(json.dumps({"extra": extra}))
    arrays = {
        "image_embeds": theirs["image encoder", "tokens"],
        "image_feats": theirs["image encoder", "embedding"],
        "text_feats": theirs["text encoder", "embedding"],
        "itm_logits": theirs["decoder", "match logits"],
    }
    np.savez(
        tmp_path / "a_forward.npz",
        images=np.moveaxis(images, -1, 1),
        input_ids=token_ids,
        mlm_input_ids=token_ids,
        **arrays,
    )
    table = check_golden(str(tmp_path), "float32")
    passed = {row.quantity for row in table.rows if row.status == "pass"}
    assert set(arrays) <= passed and not table.failed
    assert sum(row.status == "absent" for row in table.rows) == len(ALL_CASES) - 1
