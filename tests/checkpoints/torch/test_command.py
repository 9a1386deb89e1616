"""`python -m cada_jax convert`, there and back."""

import re
import subprocess
import sys

import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from cada_jax.checkpoints import export
from tests.checkpoints.torch.support import WORDS, assert_equal, cut_vocabulary, gated_leaves, save


def test_a_vocabulary_of_another_size_is_refused(
    torch, convert, weights, tmp_path, config_file, vocab, capsys
):
    path = save(torch, tmp_path / "model.pth", weights)
    vocab.write_text(vocab.read_text() + "more\n")
    flags = [str(path), str(tmp_path / "model"), f"--config={config_file}", f"--vocab={vocab}"]
    assert convert(flags) == 2
    assert "201 entries" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    assert convert(flags[:3]) == 2
    assert "--vocab=bert-base-uncased" in capsys.readouterr().err


def test_the_tool_converts_there_and_back_bit_by_bit(
    torch, convert, weights, tmp_path, config_file, vocab, capsys
):
    source = save(torch, tmp_path / "authors.pth", weights)
    model, again = tmp_path / "model", tmp_path / "again"
    flags = [str(source), str(model), f"--config={config_file}", f"--vocab={vocab}"]
    assert convert(flags) == 0
    assert "rows: 91 loaded, 0 new, 4 left out" in capsys.readouterr().out
    assert convert([str(model), str(tmp_path / "back.pth")]) == 0
    content = torch.load(tmp_path / "back.pth", weights_only=True)
    state = {name: x.numpy() for name, x in content["model"].items()}
    assert_equal(state, weights)
    word = "text_decoder.bert.embeddings.word_embeddings.weight"
    copy = "text_decoder.cls.predictions.decoder.weight"
    assert content["model"][word].data_ptr() == content["model"][copy].data_ptr()
    # No flags: config and vocabulary travel inside the .pth.
    assert convert([str(tmp_path / "back.pth"), str(again)]) == 0
    first, second = (export.load_model(path) for path in (model, again))
    assert_equal(flatten_dict(second[0], sep="/"), flatten_dict(first[0], sep="/"))
    assert second[1].to_json() == first[1].to_json()
    assert second[2].read_text() == first[2].read_text()


def test_dropping_a_trained_gate_prints_its_cost(
    torch, convert, tiny_config, vocab, tmp_path, capsys
):
    leaves = gated_leaves(tiny_config, 0.3)
    model, target = tmp_path / "model", tmp_path / "model.pth"
    export.save_model(model, unflatten_dict(leaves, sep="/"), tiny_config, vocab)
    assert convert([str(model), str(target)]) == 2
    assert "--drop_gate" in capsys.readouterr().err and not target.exists()
    assert convert([str(model), str(target), "--drop_gate"]) == 0
    printed = capsys.readouterr().out
    moved = float(re.search(r"moves by (\S+) on average", printed).group(1))
    assert moved > 0
    kept = tmp_path / "kept.pth"
    assert convert([str(model), str(kept), "--keep_extras"]) == 0
    assert convert([str(kept), str(tmp_path / "back")]) == 0
    back, _, _ = export.load_model(tmp_path / "back")
    assert_equal(flatten_dict(back, sep="/"), leaves)


def flags_of(source, tmp_path, config_file, vocab, *more):
    return [
        str(source),
        str(tmp_path / "model"),
        f"--config={config_file}",
        f"--vocab={vocab}",
        *more,
    ]


@pytest.mark.parametrize("rows", [198, 199])
def test_rows_for_the_added_tokens_are_appended_only_when_asked(
    torch, convert, weights, tmp_path, config_file, vocab, capsys, rows
):
    path = save(torch, tmp_path / "bert.pth", cut_vocabulary(weights, rows))
    flags = flags_of(path, tmp_path, config_file, vocab)
    assert convert(flags) == 2
    assert "--append_tokens" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    assert convert([*flags, "--append_tokens"]) == 0
    tokens = "[ENC]" if rows == 199 else "[DEC] and [ENC]"
    printed = capsys.readouterr().out
    assert f"text_encoder/word_embed/embedding, rows of {tokens}" in printed
    assert f"attribute_decoder/head/bias, rows of {tokens}" in printed
    params, _, _ = export.load_model(tmp_path / "model")
    words = params["text_encoder"]["word_embed"]["embedding"]
    wanted = weights["text_encoder.embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(words[:rows], wanted[:rows])
    assert words.shape == wanted.shape and 0 < np.abs(words[rows:]).max() < 0.2


@pytest.mark.parametrize("rows", [197, 201])
def test_rows_of_another_number_are_never_appended(
    torch, convert, weights, tmp_path, config_file, vocab, capsys, rows
):
    longer = {
        n: np.resize(x, (rows, *x.shape[1:])) for n, x in weights.items() if n.endswith(WORDS)
    }
    path = save(torch, tmp_path / "other.pth", weights | longer)
    flags = flags_of(path, tmp_path, config_file, vocab, "--append_tokens")
    assert convert(flags) == 2
    assert f"{rows}x64, expected 200x64 (another vocabulary" in capsys.readouterr().err


def test_a_captioning_model_alone_is_refused_and_serves_as_attribute_decoder(
    torch, convert, weights, tmp_path, config_file, vocab, capsys
):
    captions = {n: x for n, x in weights.items() if n.startswith(("visual_enc", "text_decoder"))}
    retrieval = {n: x for n, x in weights.items() if not n.startswith("text_decoder")}
    captions = save(torch, tmp_path / "captions.pth", captions)
    retrieval = save(torch, tmp_path / "retrieval.pth", retrieval)
    assert convert(flags_of(captions, tmp_path, config_file, vocab)) == 2
    error = capsys.readouterr().err
    assert "has no text_encoder, no vision_proj" in error and "--attribute_decoder=" in error
    assert not (tmp_path / "model").exists()
    both = flags_of(retrieval, tmp_path, config_file, vocab, f"--attribute_decoder={captions}")
    assert convert(both) == 0
    assert "rows: 91 loaded, 0 new" in capsys.readouterr().out
    assert convert([*both, "--overwrite", "--attribute_decoder", str(retrieval)]) == 2
    assert "no tensor named text_decoder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["gone.py", "vocab.txt", "nobody"])
def test_a_config_file_that_gives_none_is_named(
    torch, convert, weights, tmp_path, vocab, capsys, name
):
    path = save(torch, tmp_path / "a.pth", weights)
    flags = flags_of(path, tmp_path, tmp_path / name, vocab)
    assert convert(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --config={tmp_path / name}") and len(error.splitlines()) == 1


STORED = {
    "no object": [],
    "empty": {},
    "without a model": {"seed": 0},
    "a word for a size": {"model": {"image": {"size": "large"}}},
}


@pytest.mark.parametrize("case", STORED)
def test_a_stored_config_that_describes_no_model_is_refused(
    torch, convert, weights, tmp_path, vocab, capsys, case
):
    path = save(torch, tmp_path / "a.pth", weights, config={"cada_jax": {"config": STORED[case]}})
    assert convert([str(path), str(tmp_path / "model"), f"--vocab={vocab}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    assert ("the config stored in it" in error) == (case != "no object")


def test_help_and_a_misspelt_flag_need_no_jax(tmp_path):
    for flag, code in (("--help", 0), ("--overwrit3", 2)):
        line = f"import sys; from cada_jax.checkpoints.torch.command import main; main(['{flag}'])"
        check = "import atexit; atexit.register(lambda: print('jax' in sys.modules));"
        run = subprocess.run(
            [sys.executable, "-c", f"import sys; {check} {line}"], capture_output=True, text=True
        )
        assert run.returncode == code and run.stdout.splitlines()[-1] == "False"
        assert "python -m cada_jax convert" in run.stdout + run.stderr
