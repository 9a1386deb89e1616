"""`python -m cada_jax convert`, there and back."""

import re

from flax.traverse_util import flatten_dict, unflatten_dict

from cada_jax.checkpoints import export
from tests.checkpoints.torch.support import assert_equal, gated_leaves, save


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
