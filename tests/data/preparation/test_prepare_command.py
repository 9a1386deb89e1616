"""tools/prepare_data.py from its flags to what it prints."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cada_jax.data.preparation.features import caption_config
from tests.conftest import DATASETS, REPOSITORY, load_tool

DUMMY = DATASETS / "rstp" / "dummy_data"


@pytest.fixture(scope="module")
def tool():
    return load_tool("prepare_data")


@pytest.fixture
def source(tmp_path):
    return Path(shutil.copytree(DUMMY, tmp_path / "RSTPReid"))


def flags(source, *more):
    vocabulary = f"--vocab={DUMMY / 'vocab.txt'}"
    return ["--dataset=rstp", f"--source={source}", vocabulary, *map(str, more)]


def test_prepares_and_counts_beside_the_published_numbers(tool, source, tmp_path, capsys):
    out = tmp_path / "out"
    assert tool.main(flags(source, f"--data_dir={out}")) == 0
    printed = capsys.readouterr().out
    assert re.search(r"train +2 \(3701\) +4 \(18505\) +8 \(37010\) +differs", printed)
    assert "WARNING" in printed
    (variant,) = re.findall(r"--config\.data\.variant=(\S+)", printed)
    assert (out / "rstp" / variant / "2.0.0" / "vocab.txt").is_file()
    assert tool.main(flags(source, f"--data_dir={out}")) == 0
    assert "Already prepared" in capsys.readouterr().out


def test_no_warning_where_the_numbers_are_the_published_ones(tool, source):
    import dataclasses

    from cada_jax.data.registry import PUBLISHED

    layout = PUBLISHED["rstp"].LAYOUT
    splits = {"train": (2, 4, 8), "val": (1, 1, 2), "test": (2, 2, 4)}
    same = dataclasses.replace(layout, splits=splits)
    table = tool.count_table(tool.read_source(same, source))
    assert "differs" not in table and "WARNING" not in table


def test_check_lists_every_problem_and_writes_nothing(tool, source, tmp_path, capsys):
    assert tool.main(flags(source, "--check")) == 0
    assert "0 problems" in capsys.readouterr().out
    entries = json.loads((source / "data_captions.json").read_text())
    entries[0]["captions"] = [" "]
    entries[4]["id"] = entries[6]["id"]
    (source / "data_captions.json").write_text(json.dumps(entries))
    (source / "imgs" / entries[5]["img_path"]).unlink()
    (source / "imgs" / entries[6]["img_path"]).write_text("no image")
    before = sorted(tmp_path.rglob("*"))
    assert tool.main(flags(source, "--check", f"--data_dir={tmp_path / 'out'}")) == 1
    printed = capsys.readouterr().out
    assert "empty caption ' '" in printed
    assert f"person {entries[6]['id']} is in the splits val and test" in printed
    assert f"missing under {source / 'imgs'}" in printed and entries[5]["img_path"] in printed
    assert f"{entries[6]['img_path']} cannot be decoded" in printed
    assert "4 problems" in printed
    assert sorted(tmp_path.rglob("*")) == before


def test_a_usage_error_is_one_line_and_no_traceback(tool, tmp_path, capsys):
    assert tool.main(flags(tmp_path, "--check")) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "data_captions.json" in error
    assert len(error.splitlines()) == 1


def test_show_marks_phrases_whole(tool, source, capsys):
    assert tool.main(flags(source, "--show=4")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert any(re.search(r"\[\w+ t - shirt\] , \[\w+ trousers\]", line) for line in lines)
    assert all("[SEP]" not in line and "[CLS]" not in line for line in lines)


def test_show_colours_phrases_on_a_terminal(tool):
    config = caption_config(str(DUMMY / "vocab.txt"))
    text = tool.mark_phrases(config.encoder(), "A red top, a bag.", "x.jpg", colour=True)
    plain = re.sub(r"\033\[\d+m", "", text)
    assert plain == "a red top , a bag"
    first, second = re.findall(r"(\033\[\d+m)([^\033]+)\033\[0m", text)
    assert (first[1], second[1]) == ("red top", "bag") and first[0] != second[0]


def test_the_tool_knows_every_published_set_before_tensorflow_is_there(tool):
    from cada_jax.data.registry import PUBLISHED

    assert list(tool.DATASETS) == sorted(PUBLISHED)
    code = "import sys, runpy; runpy.run_path(sys.argv[1], run_name='__mp_main__');"
    code += "sys.exit('tensorflow' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code, tool.__file__], cwd=REPOSITORY)
    assert ran.returncode == 0, "every worker process would import TensorFlow"


def test_ctrl_c_is_one_line(tool, source, tmp_path, monkeypatch, capsys):
    def interrupt(images, *_):
        yield next(iter(images))
        raise KeyboardInterrupt

    monkeypatch.setattr(tool, "progress_bar", interrupt)
    assert tool.main(flags(source, f"--data_dir={tmp_path / 'out'}")) == 130
    assert capsys.readouterr().err.startswith("Stopped; nothing half-written is left.")
    assert not [p for p in tmp_path.rglob("*") if "tfrecord" in p.name]
