"""`cada convert`: there and back, and nothing of anybody else's is replaced."""

import pathlib

import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from cada_jax.checkpoints import model as model_lib
from tests.checkpoints.torch.support import assert_equal, gated_leaves, random_leaves, save

STORED = {"vision_config": {"num_attention_heads": 4}, "text_config": {"num_attention_heads": 4}}


def snapshot(root: pathlib.Path) -> dict:
    """Every file and folder below `root` with its bytes."""
    return {
        path.relative_to(root): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture
def model(tiny_config, vocab, tmp_path):
    """A small model folder without a gate."""
    tiny_config.atp.gate = "off"
    leaves = random_leaves(tiny_config)
    folder = tmp_path / "model"
    model_lib.save_model(folder, unflatten_dict(leaves, sep="/"), tiny_config, vocab)
    return folder


def test_a_checkpoint_converts_there_and_back_bit_by_bit(
    torch, convert, weights, tmp_path, vocab, capsys
):
    source = save(torch, tmp_path / "authors.pth", weights, config=STORED)
    model, again = tmp_path / "model", tmp_path / "again"
    assert convert([str(source), str(model), f"--vocab={vocab}"]) == 0
    printed = capsys.readouterr().out
    assert "loaded: 430,924 parameters of attribute_decoder, image_encoder" in printed
    found = model_lib.load_model(model)
    assert found.config.model.image.heads == 4 and found.config.model.tokens.enc == 199
    assert found.config.atp.gate == "off" and found.config.data.image_size == (32, 32)
    assert convert([str(model), str(tmp_path / "back.pth")]) == 0
    content = torch.load(tmp_path / "back.pth", weights_only=True)
    assert_equal(content["model"], weights)
    word = "text_decoder.bert.embeddings.word_embeddings.weight"
    copy = "text_decoder.cls.predictions.decoder.weight"
    assert content["model"][word].data_ptr() == content["model"][copy].data_ptr()
    # No flags: config and vocabulary travel inside the .pth.
    assert convert([str(tmp_path / "back.pth"), str(again)]) == 0
    second = model_lib.load_model(again)
    assert_equal(flatten_dict(second.params, sep="/"), flatten_dict(found.params, sep="/"))
    assert second.config.to_json() == found.config.to_json()
    assert second.vocab_path.read_text() == found.vocab_path.read_text()


def test_gate_and_stems_come_back_from_a_pth_that_keeps_them(
    torch, convert, tiny_config, vocab, tmp_path, capsys
):
    leaves = gated_leaves(tiny_config, 0.3)
    model, kept = tmp_path / "model", tmp_path / "kept.pth"
    model_lib.save_model(model, unflatten_dict(leaves, sep="/"), tiny_config, vocab)
    assert convert([str(model), str(kept)]) == 2
    assert "--drop_gate" in capsys.readouterr().err and not kept.exists()
    assert convert([str(model), str(kept), "--keep_extras"]) == 0
    assert convert([str(kept), str(tmp_path / "back")]) == 0
    assert_equal(flatten_dict(model_lib.load_model(tmp_path / "back").params, sep="/"), leaves)


def test_a_vocabulary_of_another_size_is_refused(torch, convert, weights, tmp_path, vocab, capsys):
    path = save(torch, tmp_path / "model.pth", weights, config=STORED)
    vocab.write_text(vocab.read_text() + "more\n")
    assert convert([str(path), str(tmp_path / "model"), f"--vocab={vocab}"]) == 2
    assert "has 200 words, and its vocabulary 201 entries" in capsys.readouterr().err
    assert convert([str(path), str(tmp_path / "model")]) == 2
    assert "--vocab" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_captioning_model_alone_is_refused_and_serves_as_attribute_decoder(
    torch, convert, weights, tmp_path, vocab, capsys
):
    captions = {n: x for n, x in weights.items() if n.startswith(("visual_enc", "text_decoder"))}
    retrieval = {n: x for n, x in weights.items() if not n.startswith("text_decoder")}
    captions = save(torch, tmp_path / "captions.pth", captions, config=STORED)
    retrieval = save(torch, tmp_path / "retrieval.pth", retrieval, config=STORED)
    target = [str(tmp_path / "model"), f"--vocab={vocab}"]
    assert convert([str(captions), *target]) == 2
    error = capsys.readouterr().err
    assert "has no text_encoder, no vision_proj" in error and "--attribute_decoder=" in error
    assert convert([str(retrieval), *target]) == 0
    assert "not there: the attribute decoder" in capsys.readouterr().out
    found = model_lib.load_model(tmp_path / "model")
    assert "attribute_decoder" not in found.params and not found.config.loss.ara_weight
    assert convert([str(tmp_path / "model"), str(tmp_path / "back.pth")]) == 2
    assert "has no attribute decoder" in capsys.readouterr().err
    assert convert([str(retrieval), *target, "--overwrite", f"--attribute_decoder={captions}"]) == 0
    assert "attribute_decoder" in model_lib.load_model(tmp_path / "model").params


TARGETS = {  # as seen from home/sub
    "folder with files": "../other",
    "the working folder's": ".",
    "the checkpoint": "../a.pth",
    "a link to a folder": "../link",
    "called like a file": "new.pth",
    "an address": "gs://bucket/model",
}


@pytest.mark.parametrize("case", TARGETS)
def test_what_is_not_ours_stays(torch, convert, tmp_path, case, monkeypatch, capsys):
    home = tmp_path / "home"
    for folder in ("other", "sub"):
        (home / folder).mkdir(parents=True)
        (home / folder / "notes.md").write_text("mine")
    (home / "file").write_text("words")
    (home / "link").symlink_to(home / "other")
    save(torch, home / "a.pth", {"itm_head.bias": np.ones(2, np.float32)})
    monkeypatch.chdir(home / "sub")
    before = snapshot(home)
    for flags in ([], ["--overwrite"]):
        assert convert(["../a.pth", TARGETS[case], *flags]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and len(error.splitlines()) == 1, error
        assert snapshot(home) == before


def test_our_own_files_are_replaced_only_when_asked(torch, convert, model, tmp_path, capsys):
    target = tmp_path / "model.pth"
    assert convert([str(model), str(target)]) == 0
    before = target.read_bytes()
    assert convert([str(model), str(target)]) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err and target.read_bytes() == before
    assert convert([str(model), str(target), "--overwrite"]) == 0
    again = tmp_path / "again"
    again.mkdir()  # an empty folder is free
    assert convert([str(target), str(again)]) == 0
    assert convert([str(target), str(again)]) == 2
    assert convert([str(target), str(again), "--overwrite"]) == 0
    (again / "params" / "d" / "thesis.tex").write_text("years")
    assert convert([str(target), str(again), "--overwrite"]) == 2
    assert (again / "params" / "d" / "thesis.tex").read_text() == "years"
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("target", ["theirs.pth", "notes.pth", "folder.pth"])
def test_a_file_of_another_origin_is_never_replaced(torch, convert, model, tmp_path, target):
    save(torch, tmp_path / "theirs.pth", {"itm_head.bias": np.ones(2)}, config={"k": 1})
    (tmp_path / "notes.pth").write_text("words")
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "folder.pth" / "notes.md").write_text("mine")
    before = snapshot(tmp_path)
    assert convert([str(model), str(tmp_path / target), "--overwrite"]) == 2
    assert snapshot(tmp_path) == before


def test_a_missing_source_is_what_is_said_to_be_missing(convert, tmp_path, capsys):
    for source in ("none", "none.pth"):
        for target in ("model", "model.pth"):
            assert convert([str(tmp_path / source), str(tmp_path / target)]) == 2
            assert f"error: {tmp_path / source}: " in capsys.readouterr().err
