"""`convert` never removes or replaces what it did not write."""

import os
import pathlib
import re

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from cada_jax.checkpoints import export
from cada_jax.checkpoints.torch import files, targets
from tests.checkpoints.torch.support import assert_equal, random_leaves, save


def snapshot(root: pathlib.Path) -> dict:
    """Every file and folder below `root` with its bytes."""
    return {
        path.relative_to(root): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture
def source(torch, tmp_path):
    """A checkpoint in a folder with other things in it. It fits nothing, but is not read first."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    return save(torch, tmp_path / "home" / "a.pth", {"itm_head.bias": np.ones(2, np.float32)})


TARGETS = {  # DST, as seen from home/sub -> what the message says
    "folder with files": ("../other", "not a model folder .*a folder with notes.md"),
    "the checkpoint's folder": ("..", "holds the source"),
    "above it": ("../..", "holds the source"),
    "the working folder": (".", "is the working folder"),
    "the checkpoint": ("../a.pth", "is the source"),
    "another file": ("../file", "a file of 5 bytes"),
    "below a file": ("../file/model", "is no folder"),
    "a link to a folder": ("../link", "a folder with notes.md"),
    "called like a file": ("new.pth", "called like a PyTorch file"),
    "a model with other files in it": ("../mixed", "a folder with card.json"),
}


@pytest.mark.parametrize("flags", [[], ["--overwrite"]])
@pytest.mark.parametrize("case", TARGETS)
def test_what_is_not_ours_stays_and_is_named(convert, source, case, flags, monkeypatch, capsys):
    home = source.parent
    for folder, file in (("other", "notes.md"), ("mixed", "notes.md"), ("mixed", "card.json")):
        (home / folder).mkdir(exist_ok=True)
        (home / folder / file).write_text("mine")
    for file in export.NEEDED:
        (home / "mixed" / file).write_text("a model's")
    (home / "file").write_text("words")
    (home / "link").symlink_to(home / "other")
    (home / "sub").mkdir()
    monkeypatch.chdir(home / "sub")
    before = snapshot(home)
    target, message = TARGETS[case]
    assert convert([str(source), target, *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and len(error.splitlines()) == 1
    assert re.search(message, error), error
    assert snapshot(home) == before


def test_the_tilde_is_expanded_before_the_target_is_judged(convert, source, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(source.parent))
    assert convert([str(source), "~"]) == 2
    assert "holds the source" in capsys.readouterr().err


@pytest.fixture
def model(tiny_config, vocab, tmp_path):
    """A small model folder."""
    tiny_config.atp.gate = "off"
    leaves = random_leaves(tiny_config)
    folder = tmp_path / "model"
    export.save_model(folder, unflatten_dict(leaves, sep="/"), tiny_config, vocab)
    return folder


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
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]
    first, second = (export.load_model(path)[0] for path in (model, again))
    assert_equal(first["itm_head"], second["itm_head"])


@pytest.mark.parametrize("target", ["theirs.pth", "notes.pth", "folder", "folder.pth", "model.txt"])
def test_a_file_of_another_origin_is_never_replaced(torch, convert, model, tmp_path, target):
    save(torch, tmp_path / "theirs.pth", {"itm_head.bias": np.ones(2)}, config={"k": 1})
    (tmp_path / "notes.pth").write_text("words")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.pth").mkdir()
    before = snapshot(tmp_path)
    for flags in ([], ["--overwrite"]):
        assert convert([str(model), str(tmp_path / target), *flags]) == 2
    assert snapshot(tmp_path) == before


def test_the_marker_tells_our_files_from_others(torch, tmp_path):
    arrays = {"itm_head.bias": np.ones(2, np.float32)}
    files.write_checkpoint(tmp_path / "a.pth", arrays, {"cada_jax": {}})
    assert targets.carries_our_marker(tmp_path / "a.pth")
    files.write_checkpoint(tmp_path / "b.pth", arrays, {})
    assert not targets.carries_our_marker(tmp_path / "b.pth")
    assert not targets.carries_our_marker(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_cannot_be_written_is_said_at_once(convert, source, capsys):
    source.parent.chmod(0o500)
    assert convert([str(source), str(source.parent / "model")]) == 2
    assert "not writable" in capsys.readouterr().err
