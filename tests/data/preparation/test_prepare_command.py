"""`python -m cada_jax prepare` from its flags to what it prints."""

import json
import re
import shutil
from pathlib import Path

import pytest

from cada_jax.data.preparation import command
from cada_jax.text.attribute_phrases import CaptionEncoder
from cada_jax.text.tokenizer import Tokenizer
from tests.conftest import DATASETS

DUMMY = DATASETS / "rstp" / "dummy_data"


@pytest.fixture
def source(tmp_path):
    return Path(shutil.copytree(DUMMY, tmp_path / "RSTPReid"))


def flags(source, *more):
    vocabulary = f"--vocab={DUMMY / 'vocab.txt'}"
    return ["--dataset=rstp", f"--source={source}", vocabulary, *map(str, more)]


def test_prepares_and_counts_beside_the_published_numbers(source, tmp_path, capsys):
    out = tmp_path / "out"
    assert command.main(flags(source, f"--data_dir={out}")) == 0
    printed = capsys.readouterr().out
    assert re.search(r"train +2 \(3701\) +4 \(18505\) +8 \(37010\) +differs", printed)
    assert "WARNING" in printed
    (variant,) = re.findall(r"--config\.data\.variant=(\S+)", printed)
    (folder,) = (out / "rstp" / variant).glob("[0-9]*")
    assert command.main(flags(source, f"--data_dir={out}")) == 0
    assert "Already prepared" in capsys.readouterr().out
    assert command.main(flags(source, f"--data_dir={out}", "--max_length=8")) == 0
    printed = capsys.readouterr().out
    assert re.search(r"\d+ of 14 captions \(.* %\) exceed --max_length=8 tokens", printed)
    (folder / "vocab.txt").write_text("other")
    assert command.main(flags(source, f"--data_dir={out}")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "vocab.txt is not the file that was written" in error and "Remove that folder" in error


def test_check_lists_every_problem_and_writes_nothing(source, tmp_path, capsys):
    assert command.main(flags(source, "--check")) == 0
    assert "0 problems" in capsys.readouterr().out
    entries = json.loads((source / "data_captions.json").read_text())
    entries[0]["captions"] = [" "]
    entries[1]["img_path"] = "caf\u00e9.jpg"
    entries[4]["id"] = entries[6]["id"]
    (source / "data_captions.json").write_text(json.dumps(entries))
    (source / "imgs" / entries[6]["img_path"]).write_text("no image")
    before = sorted(tmp_path.rglob("*"))
    assert command.main(flags(source, "--check", f"--data_dir={tmp_path / 'out'}")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-5] == f"4 problems in {source / 'data_captions.json'}:"
    assert lines[-4].startswith("entry 0: image '0000_c01_0001.jpg': empty caption ' '")
    assert lines[-3].startswith("entry 1: image 'caf\u00e9.jpg' is missing under")
    assert lines[-2] == f"person '{entries[6]['id']}' is in val and test"
    assert lines[-1].startswith("entry 6: image ")
    assert "cannot be decoded (it is no image file" in lines[-1]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--check"], "data_captions.json"),
        (["--max_length=1"], "max_length (--max_length) is 1, expected 3"),
        (["--source="], "--source is empty"),
        (["--captions=x.csv"], "--captions is of --dataset=folder"),
    ],
)
def test_a_usage_error_is_one_line_and_no_traceback(tmp_path, capsys, more, named):
    assert command.main(flags(tmp_path, *more)) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and named in error
    assert len(error.splitlines()) == 1


def test_show_colours_phrases_on_a_terminal():
    encoder = CaptionEncoder(Tokenizer(DUMMY / "vocab.txt"), 73)
    text = command.mark_phrases(encoder, "A red top, a bag.", "x.jpg", colour=True)
    plain = re.sub(r"\033\[\d+m", "", text)
    assert plain == "a red top , a bag"
    first, second = re.findall(r"(\033\[\d+m)([^\033]+)\033\[0m", text)
    assert (first[1], second[1]) == ("red top", "bag") and first[0] != second[0]
