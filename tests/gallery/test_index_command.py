"""`cada index`: its flags, its report, its exit codes, one line for every mistake."""

import json

import pytest

from cada_jax.gallery.commands import index as command
from cada_jax.gallery.gallery import Gallery
from tests.gallery.tiny import write_pictures

MODEL = "--model=pretrained:synthetic"


@pytest.fixture
def run(tmp_path, capsys):
    """A function: flags -> (exit code, stdout, stderr) of indexing `photos` into `db`."""

    def call(*flags):
        code = command.main([f"--images={tmp_path / 'photos'}", f"--db={tmp_path / 'db'}", *flags])
        return code, *capsys.readouterr()

    return call


def test_a_folder_is_indexed_and_the_report_is_printed(run, tmp_path):
    write_pictures(tmp_path / "photos", ["a.png", "in/b_c7.png"])
    (tmp_path / "photos" / "bad\x1b[31m.jpg").write_bytes(b"no picture")
    code, out, _ = run(MODEL, r"--camera_pattern=_c([0-9])")
    assert code == 0 and "2 new, 0 changed, 0 moved, 0 unchanged, 0 removed, 1 unreadable" in out
    assert "\x1b" not in out and f"2 pictures in {tmp_path / 'db'}; encoded 2 in" in out
    code, out, _ = run(MODEL, "--json")
    report = json.loads(out)
    assert code == 0 and report["unchanged"] == 2 and len(report["unreadable"]) == 1
    with Gallery.open(tmp_path / "db") as gallery:
        assert gallery.summary()["cameras"] == ["7"]
        assert gallery.meta.model_path == "pretrained:synthetic"


def test_a_folder_without_a_picture_is_exit_code_1(run, tmp_path):
    (tmp_path / "photos").mkdir()
    code, out, _ = run(MODEL)
    assert code == 1 and "0 pictures in" in out


@pytest.mark.parametrize(
    "flags, says",
    [
        ([], "--model"),
        ([MODEL, "--tokens=some"], "--tokens"),
        ([MODEL, "--batch_size=-1"], "--batch_size=-1: expected"),
        ([MODEL, "--batch_size=x"], "--batch_size"),
        ([MODEL, "--min_box_score=2"], "expected 0 to 1"),
        ([MODEL, "--min_box_score=nan"], "expected 0 to 1"),
        ([MODEL, "--camera_pattern=("], "expected a regular expression"),
        ([MODEL, "--boxes=/nowhere"], "it does not exist"),
        ([MODEL, "--boxes_images=/nowhere"], "expected --boxes beside it"),
        ([MODEL, "--images=/nowhere"], "expected a folder of pictures"),
        ([MODEL, "--db=gs://bucket"], "is neither"),
        ([MODEL, "--db=/proc/none/db"], "expected a place for a gallery"),
        (["--model=/nowhere"], "/nowhere"),
        (["--model=pretrained:none"], "none"),
        ([MODEL, "--token_store=nonsense://x"], "expected a folder or a bucket"),
        ([MODEL, "--tok=store"], "unrecognized"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run, tmp_path, flags, says):
    write_pictures(tmp_path / "photos", ["a.png"])
    code, out, err = run(*flags)
    assert code == 2 and not out and says in err and len(err.splitlines()) == 1
