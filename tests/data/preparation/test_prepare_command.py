"""`python -m cada_jax prepare` from its flags to what it prints."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cada_jax.data.preparation import command
from cada_jax.data.preparation.annotations import read_source
from cada_jax.data.preparation.features import caption_config
from cada_jax.data.preparation.show import mark_phrases
from cada_jax.text.attribute_phrases import TAG_UNITS, TAGGERS
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
    assert (out / "rstp" / variant / "2.0.0" / "vocab.txt").is_file()
    assert command.main(flags(source, f"--data_dir={out}")) == 0
    assert "Already prepared" in capsys.readouterr().out


def test_no_warning_where_the_numbers_are_the_published_ones(source):
    import dataclasses

    from cada_jax.data.registry import PUBLISHED

    layout = PUBLISHED["rstp"].LAYOUT
    splits = {"train": (2, 4, 8), "val": (1, 1, 2), "test": (2, 2, 4)}
    same = dataclasses.replace(layout, splits=splits)
    table = command.count_table(read_source(same, source))
    assert "differs" not in table and "WARNING" not in table


def test_check_lists_every_problem_and_writes_nothing(source, tmp_path, capsys):
    assert command.main(flags(source, "--check")) == 0
    assert "0 problems" in capsys.readouterr().out
    entries = json.loads((source / "data_captions.json").read_text())
    entries[0]["captions"] = [" "]
    entries[4]["id"] = entries[6]["id"]
    (source / "data_captions.json").write_text(json.dumps(entries))
    (source / "imgs" / entries[5]["img_path"]).unlink()
    (source / "imgs" / entries[6]["img_path"]).write_text("no image")
    before = sorted(tmp_path.rglob("*"))
    assert command.main(flags(source, "--check", f"--data_dir={tmp_path / 'out'}")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "4 problems" in lines[-5]
    assert lines[-4] == (
        f"entry 0: img_path {entries[0]['img_path']!r}: captions[0]: empty caption ' ': "
        "expected at least one word"
    )
    assert lines[-3] == f"person {entries[6]['id']} is in the splits val and test"
    assert lines[-2].startswith(f"entry 5: img_path {entries[5]['img_path']!r} is missing under")
    assert lines[-1].startswith(f"entry 6: img_path {entries[6]['img_path']!r} (")
    assert "cannot be decoded (it is no image file" in lines[-1]
    assert sorted(tmp_path.rglob("*")) == before


def test_of_many_problems_ten_of_each_kind_are_shown(source, capsys):
    entries = json.loads((source / "data_captions.json").read_text())
    entries += [{**entries[0], "img_path": f"x{i}.jpg"} for i in range(15)]
    entries += [{**entries[0], "split": "dev"}] * 12
    (source / "data_captions.json").write_text(json.dumps(entries))
    assert command.main(flags(source, "--check")) == 1
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("27 problems in "))
    assert lines[start + 1] == "splits: 12, the first 10"
    assert lines[start + 12] == "images: 15, the first 10"
    assert len(lines) == start + 1 + 2 * 11
    assert "'x9.jpg'" in lines[-1]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--check"], "data_captions.json"),
        (["--max_length=0"], "max_length (--max_length) is 0, expected 3"),
        (["--max_length=-1"], "is -1"),
        (["--max_length=1"], "is 1"),
        (["--max_length=513"], "is 513"),
        (["--max_length=many"], "invalid int value: 'many'"),
        (["--workers=-1"], "--workers is -1"),
        (["--show=0"], "--show is 0"),
        (["--show=3", "--check"], "not allowed with argument"),
        (["--tagger=spacy"], "choose from"),
        (["--dataset=prcc"], "choose from"),
        (["--source="], "--source is empty"),
        (["--source=~nobody_of_this_name/x"], "--source is '~nobody_of_this_name/x'"),
        (["--source=" + "x" * 300], "does not exist"),
        (["--vocab=/no/such/folder/vocab.txt"], "vocab.txt"),
        (["--speling"], "--help"),
    ],
)
def test_a_usage_error_is_one_line_and_no_traceback(tmp_path, capsys, monkeypatch, more, named):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: open("/no/such"))
    assert command.main(flags(tmp_path, *more)) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and named in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("where", ["file/below", "/proc/nowhere", "~nobody_of_this_name/x"])
def test_a_data_folder_that_cannot_be_written_is_one_line(source, tmp_path, capsys, where):
    (tmp_path / "file").touch()
    folder = where if where.startswith("~") else tmp_path / where
    assert command.main(flags(source, f"--data_dir={folder}")) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "--data_dir" in error and str(folder) in error


def test_a_stdout_that_takes_nothing_is_one_line(source):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    out = os.open("/dev/full", os.O_WRONLY)
    run = [sys.executable, "-m", command.__name__, *flags(source, "--check")]
    ran = subprocess.run(run, stdout=out, stderr=subprocess.PIPE, text=True)
    os.close(out)
    assert ran.returncode == 2 and "Traceback" not in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("error: cannot write the output: ")


def test_a_name_that_the_terminal_cannot_show_is_escaped(source, monkeypatch):
    entries = json.loads((source / "data_captions.json").read_text())
    entries[0]["captions"] = ["\ud83d alone"]
    entries[1]["img_path"] = "caf\u00e9.jpg"
    (source / "data_captions.json").write_text(json.dumps(entries))
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert command.main(flags(source, "--check")) == 1
    printed = raw.getvalue().decode("ascii")
    assert "caf\\xe9.jpg" in printed and "\\ud83d alone" in printed


def test_show_marks_phrases_whole(source, capsys):
    assert command.main(flags(source, "--show=4")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert any(re.search(r"\[\w+ t - shirt\] , \[\w+ trousers\]", line) for line in lines)
    assert all("[SEP]" not in line and "[CLS]" not in line for line in lines)


def test_show_colours_phrases_on_a_terminal():
    config = caption_config(str(DUMMY / "vocab.txt"))
    text = mark_phrases(config.encoder(), "A red top, a bag.", "x.jpg", colour=True)
    plain = re.sub(r"\033\[\d+m", "", text)
    assert plain == "a red top , a bag"
    first, second = re.findall(r"(\033\[\d+m)([^\033]+)\033\[0m", text)
    assert (first[1], second[1]) == ("red top", "bag") and first[0] != second[0]


def test_flags_are_parsed_before_anything_heavy_is_imported():
    """--help answers at once, and worker processes import no TensorFlow."""
    from cada_jax.data.registry import PUBLISHED

    assert list(command.DATASETS) == sorted(PUBLISHED)
    assert (command.TAGGERS, command.TAG_UNITS) == (TAGGERS, TAG_UNITS)
    code = (
        f"import sys, {command.__name__} as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(','.join({'tensorflow', 'numpy', 'jax', 'PIL'} & sys.modules.keys()) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, f"imported: {ran.stderr}"
    assert "python -m cada_jax prepare" in ran.stdout


def test_ctrl_c_is_one_line(source, tmp_path, monkeypatch, capsys):
    def interrupt(images, *_):
        yield next(iter(images))
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "progress_bar", interrupt)
    assert command.main(flags(source, f"--data_dir={tmp_path / 'out'}")) == 130
    assert capsys.readouterr().err.startswith("Nothing half-written is left.")
    assert not [p for p in tmp_path.rglob("*") if "tfrecord" in p.name]
