"""check_parity says in one sentence what is wrong with its input, and ends with 2."""

import copy
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cada_jax.common.errors import MissingFileError, UsageError
from tests.conftest import REPOSITORY
from tools import check_parity
from tools.parity import hub_inputs
from tools.parity.cases import run_cases
from tools.parity.golden import Golden
from tools.parity.nltk_data import NAME, OLD_NAME, load_nltk
from tools.parity.table import Table

WEIGHTS, METRICS = "weights_tiny", "d_metrics"


@pytest.fixture
def folder(golden, tmp_path):
    """A golden folder with the weights and the cheapest case."""
    path = tmp_path / "golden"
    path.mkdir()
    for case in (WEIGHTS, METRICS):
        for suffix in ("npz", "json"):
            shutil.copy(golden / f"{case}.{suffix}", path)
    return path


def refused(capsys, *argv) -> str:
    """The one line that the tool prints before it ends with 2; a list of misfits may follow."""
    assert check_parity.main([str(arg) for arg in argv]) == 2
    printed = capsys.readouterr()
    assert not printed.out and printed.err.startswith("error: ")
    assert all(line.startswith("  ") for line in printed.err.splitlines()[1:])
    return printed.err


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def without(path, *dropped, **changed):
    with np.load(path) as file:
        arrays = {n: x for n, x in file.items() if not n.startswith(dropped or ("\0",))}
    np.savez(path, **arrays | changed)


def edit_json(change):
    return lambda d: change_json(d / f"{WEIGHTS}.json", change)


DAMAGE = {  # what is done to the folder -> the file, or what else the message names
    "weights truncated": (lambda d: truncate(d / f"{WEIGHTS}.npz"), "weights_tiny.npz is trunc"),
    "weights emptied": (lambda d: (d / f"{WEIGHTS}.npz").write_bytes(b""), "weights_tiny.npz is"),
    "weights without arrays": (lambda d: np.savez(d / f"{WEIGHTS}.npz"), "weights_tiny.npz"),
    "no weights": (lambda d: (d / f"{WEIGHTS}.npz").unlink(), "holds no weights_tiny.npz"),
    "no words": (
        lambda d: without(d / f"{WEIGHTS}.npz", "text_encoder.embeddings"),
        "word_embeddings.weight",
    ),
    "a part missing": (lambda d: without(d / f"{WEIGHTS}.npz", "text_proj.bias"), "text_proj.bias"),
    "weights of another shape": (
        lambda d: without(d / f"{WEIGHTS}.npz", **{"itm_head.bias": np.ones(3, np.float32)}),
        "itm_head.bias is 3, expected 2",
    ),
    "no JSON": (lambda d: (d / f"{WEIGHTS}.json").write_text("{"), "no readable JSON"),
    "a JSON list": (lambda d: (d / f"{WEIGHTS}.json").write_text("[]"), "holds a list"),
    "JSON truncated": (lambda d: truncate(d / f"{WEIGHTS}.json"), "no readable JSON"),
    "no heads": (edit_json(lambda c: c["extra"]["tiny"].pop("heads")), "extra/.../heads"),
    "7 heads": (edit_json(lambda c: c["extra"]["tiny"].update(heads=7)), "heads is 7"),
    "0 heads": (edit_json(lambda c: c["extra"]["tiny"].update(heads=0)), "describe no model"),
    "extra is a list": (edit_json(lambda c: c.update(extra=[1])), "no JSON object"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_golden_folder_is_named(folder, capsys, case):
    damage, message = DAMAGE[case]
    damage(folder)
    assert message in refused(capsys, f"--golden={folder}")


CASE_DAMAGE = {
    "truncated": (truncate, "d_metrics.npz is truncated"),
    "one array": (lambda f: np.save(open(f, "wb"), np.ones(3)), "d_metrics.npz is truncated, or"),
    "without arrays": (np.savez, "nothing to compare"),
    "not there": (lambda f: f.unlink(), "holds weights but no case"),
    "another shape": (
        lambda f: without(f, **{"rnd2/txt2pid": np.ones(1)}),
        "d_metrics.npz, with its .json, has not the form of its case",
    ),
    "without scores": (lambda f: without(f, "rnd2/scores"), "'rnd2/scores' is missing"),
}


@pytest.fixture(scope="module")
def whole():
    """The golden folder of the repository, read once."""
    return Golden(str(REPOSITORY / "tests" / "golden"))


@pytest.mark.parametrize("case", CASE_DAMAGE)
def test_a_damaged_case_is_named(folder, whole, case):
    damage, message = CASE_DAMAGE[case]
    damage(folder / f"{METRICS}.npz")
    damaged = copy.copy(whole)
    damaged.folder = folder
    with pytest.raises(UsageError) as error:
        run_cases(damaged, Table())
    assert message in str(error.value) and len(str(error.value).splitlines()) == 1


def test_a_whole_folder_passes_and_none_is_refused(folder, tmp_path, capsys):
    assert check_parity.main([f"--golden={folder}"]) == 0
    assert "absent: a_forward" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "gone", folder / f"{WEIGHTS}.npz", ""):
        assert "holds no weights_tiny.npz" in refused(capsys, f"--golden={path}")


@pytest.mark.parametrize(
    "argv",
    [
        ["--golden=x", "--dtype=float64"],
        ["--golden=x", "--images=y"],
        ["--golden=x", "--torch=y"],
        [],
    ],
)
def test_flags_that_make_no_sense_end_with_2(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        check_parity.main(argv)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("python tools/check_parity.py: err")


CAPTIONS = {
    "Latin-1": ("a red caf\xe9 coat\n".encode("latin-1"), "0xe9 in line 1.*-f LATIN1"),
    "UTF-16": ("a coat\n".encode("utf-16"), "is UTF-16; .*iconv -f UTF-16"),
    "UTF-16 without a mark": ("a coat\n".encode("utf-16-le"), "zero bytes.*UTF-16LE"),
    "UTF-32": ("a coat\n".encode("utf-32"), "is UTF-32"),
    "empty": (b"", "holds no caption"),
    "blank lines": (b"\n  \n", "holds no caption"),
    "marks that cleaning removes": (b"...\n", "holds no caption"),
}


@pytest.mark.parametrize("case", CAPTIONS)
def test_captions_in_another_encoding_name_the_remedy(tmp_path, case):
    content, message = CAPTIONS[case]
    (tmp_path / "captions.txt").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        hub_inputs.read_captions(tmp_path / "captions.txt")


def test_a_byte_order_mark_is_no_part_of_the_first_caption(tmp_path):
    (tmp_path / "captions.txt").write_text("a coat\n\nred shoes\n", encoding="utf-8-sig")
    assert hub_inputs.read_captions(tmp_path / "captions.txt") == ["a coat", "red shoes"]


def test_captions_that_are_not_there_are_said(tmp_path):
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(MissingFileError, match="cannot be read"):
            hub_inputs.read_captions(path)


def test_fewer_captions_than_pictures_are_refused():
    images, token_ids = np.ones((3, 2, 2, 3)), np.ones((2, 5))
    with pytest.raises(UsageError, match="2 captions for 3 pictures"):
        hub_inputs.pair_up(images, token_ids)
    assert hub_inputs.pair_up(images[:1], token_ids) == 2
    assert hub_inputs.pair_up(images, None) == 3
    assert hub_inputs.pair_up(None, None) == 0


def test_unreadable_pictures_are_named(tmp_path):
    with pytest.raises(MissingFileError, match="no .jpg"):
        hub_inputs.read_images(tmp_path, (8, 8))
    Image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    assert hub_inputs.read_images(tmp_path, (8, 4)).shape == (1, 8, 4, 3)
    whole = (tmp_path / "a.png").read_bytes()
    for content in (b"", b"words", whole[:30], whole[:-30], whole[:20] + b"\xff" * 40):
        (tmp_path / "b.png").write_bytes(content)
        with pytest.raises(UsageError, match="b.png cannot be decoded"):
            hub_inputs.read_images(tmp_path, (8, 8))
    with pytest.raises(MissingFileError, match="is no folder"):
        hub_inputs.read_images(tmp_path / "a.png", (8, 8))


def test_what_is_wrong_with_captions_is_said_before_the_checkpoint_is_read(tmp_path, capsys):
    pytest.importorskip("transformers")
    (tmp_path / "captions.txt").write_bytes(b"\xff\xfea\x00")
    argv = [f"--torch={tmp_path}/gone.pth", f"--captions={tmp_path}/captions.txt"]
    assert "is UTF-16" in refused(capsys, *argv)
    assert "does not exist" in refused(capsys, argv[0])


@pytest.fixture
def taggers(tmp_path, monkeypatch):
    """The folder taggers of an otherwise empty NLTK_DATA."""
    nltk = pytest.importorskip("nltk")
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    path = tmp_path / "taggers"
    path.mkdir()
    return path


def test_nltk_data_of_the_old_name_is_named(taggers):
    (taggers / OLD_NAME).mkdir()
    with pytest.raises(UsageError, match=f"old name.*nltk.downloader -d {taggers.parent} {NAME}"):
        load_nltk()


def test_absent_nltk_data_is_no_error_of_the_user(taggers):
    with pytest.raises(MissingFileError):
        load_nltk()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3"])
def test_damaged_nltk_data_is_named(taggers, content):
    (taggers / NAME).mkdir()
    for part in ("weights", "tagdict", "classes"):
        (taggers / NAME / f"{NAME}.{part}.json").write_text(content)
    with pytest.raises(UsageError, match=NAME):
        load_nltk()


@pytest.mark.parametrize("command", [["tools/check_parity.py"], ["-m", "tools.check_parity"]])
def test_the_tool_runs_as_a_file_and_as_a_module(command):
    run = subprocess.run(
        [sys.executable, *command, "--help"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.returncode == 0 and "python tools/check_parity.py --golden DIR" in run.stdout
