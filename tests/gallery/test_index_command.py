"""`cada index`: its flags, its report, its exit codes, one line for every mistake."""

import importlib.util
import json
import os
import signal
import subprocess
import sys

import pytest

from cada_jax.gallery.commands import index as command
from cada_jax.gallery.gallery import Gallery
from tests.conftest import REPOSITORY
from tests.data import pictures
from tests.gallery.processes import heed_interrupts
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
    assert (
        code == 0
        and "files: 2 new, 0 changed, 0 moved, 0 unchanged, 0 removed, 1 unreadable" in out
    )
    assert "\x1b" not in out and f"2 pictures in {tmp_path / 'db'}; encoded 2 in" in out
    code, out, _ = run(MODEL, "--json")
    report = json.loads(out)
    assert code == 0 and report["unchanged"] == 2 and len(report["unreadable"]) == 1
    with Gallery.open(tmp_path / "db") as gallery:
        assert gallery.summary()["cameras"] == ["7"]
        assert gallery.meta.model_path == "pretrained:synthetic"


def test_what_phones_write_is_indexed_and_broken_files_are_named(run, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("HEIC", "HEIC, EXIF 6", "HEIC, ten pictures", "AVIF", "AVIF, EXIF 6"):
        data = pictures.EVERY_KIND[name]
        (tmp_path / "photos" / f"{name}.{name[:4]}").write_bytes(data)
    for name in ("HEIC", "AVIF"):
        data = pictures.EVERY_KIND[name]
        (tmp_path / "photos" / f"cut.{name}").write_bytes(data[: len(data) // 2])
    code, out, err = run(MODEL, "--json")
    report = json.loads(out)
    assert code == 0 and report["new"] == 5, err
    assert str(report["unreadable"]).count("cannot be decoded") == 2


def test_without_their_reader_heic_files_are_counted_and_it_is_named(run, tmp_path, monkeypatch):
    write_pictures(tmp_path / "photos", ["a.png"])
    for name in ("1.HEIC", "2.hif"):
        (tmp_path / "photos" / name).write_bytes(pictures.EVERY_KIND["HEIC"])
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, out, _ = run(MODEL)
    assert code == 0 and "2 HEIC" in out and "pip install pillow-heif" in out


def test_a_folder_without_a_picture_is_exit_code_1(run, tmp_path):
    (tmp_path / "photos").mkdir()
    code, out, _ = run(MODEL)
    assert code == 1 and "0 pictures in" in out


@pytest.mark.parametrize(
    "flags, says",
    [
        ([MODEL, "--min_box_score=nan"], "expected 0 to 1"),
        ([MODEL, "--boxes_images=/nowhere"], "expected --boxes beside it"),
        ([MODEL, "--images=/nowhere"], "expected a folder of pictures"),
        (["--model=/nowhere"], "/nowhere"),
        ([MODEL, "--images=a\0b"], "expected a folder"),
        ([MODEL, "--images=" + 300 * "x"], "expected a folder"),
        ([MODEL, "--boxes=/dev/zero"], "got a pipe or a device"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run, tmp_path, flags, says):
    write_pictures(tmp_path / "photos", ["a.png"])
    code, out, err = run(*flags)
    said = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert code == 2 and not out and len(said) == 1 and says in said[0]


def test_a_folder_is_watched_and_what_changes_is_indexed(tmp_path):
    write_pictures(tmp_path / "photos", ["a.png"])
    command = [sys.executable, "-m", "cada_jax", "index", MODEL, "--watch", "--json"]
    command += [f"--images={tmp_path / 'photos'}", f"--db={tmp_path / 'db'}"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        try:
            assert json.loads(process.stdout.readline())["new"] == 1
            write_pictures(tmp_path / "photos", {"b.png": 5})
            assert json.loads(process.stdout.readline())["new"] == 1
            (tmp_path / "photos/a.png").unlink()
            write_pictures(tmp_path / "photos", {"c.png": 6, "d.png": 7})
            while json.loads(process.stdout.readline())["pictures"] != 3:
                pass
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait() == 130
