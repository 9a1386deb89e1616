"""A preparation is whole or absent: killed, out of room, faulty, run by two at once."""

import errno
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from cada_jax.common.errors import UsageError
from cada_jax.data import registry
from cada_jax.data.preparation import prepared_folder, reader
from cada_jax.data.preparation.features import caption_config
from cada_jax.data.preparation.reader import read_all
from cada_jax.data.preparation.source import Entry
from tests.conftest import DATASETS

SOURCE = DATASETS / "rstp" / "dummy_data"
VOCABULARY = str(SOURCE / "vocab.txt")


def make_builder(folder: Path):
    return registry.PUBLISHED["rstp"](data_dir=str(folder), config=caption_config(VOCABULARY))


def left_in(folder: Path) -> list[str]:
    """What lies in the folder of a set, besides what a lock needs."""
    return [path.name for path in folder.glob("rstp/*/*") if path.name != ".preparing.lock"]


def test_the_records_are_the_files_and_captions_of_the_list_in_its_order(tmp_path):
    builder = make_builder(tmp_path)
    prepared_folder.write_records(builder, SOURCE)
    entries = json.loads((SOURCE / "data_captions.json").read_text())
    for split in builder.info.splits:
        stored = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        written = [entry for entry in entries if entry["split"] == split]
        for example, entry in zip(stored.as_numpy_iterator(), written, strict=True):
            assert example["image_path"].decode() == entry["img_path"]
            assert example["image"] == (SOURCE / "imgs" / entry["img_path"]).read_bytes()
            assert example["pid"] == entry["id"]
            texts = [text.decode() for text in example["captions"]["text"]]
            for text, caption in zip(texts, entry["captions"], strict=True):
                assert text.split()[:3] == caption.lower().split()[:3]
            assert example["captions"]["token_ids"].shape == (len(texts), 73)
            assert np.all(example["captions"]["token_ids"][:, 0] == 2)
    stored = (Path(builder.data_dir) / "vocab.txt").read_bytes()
    assert stored == Path(VOCABULARY).read_bytes()


def test_settings_that_change_the_records_change_the_folder():
    settings = ({}, {"vocab": VOCABULARY}, {"max_length": 40}, {"tagger": "pattern"})
    names = [caption_config(**some).name for some in (*settings, {"tag_unit": "wordpiece"})]
    assert len(set(names)) == len(names)
    assert caption_config("bert-base-uncased").name == names[0] == "grammar-word-73"


KILLED = """
import os, signal, sys
import tensorflow as tf
from tests.data.preparation.test_prepared_folder import SOURCE, make_builder
from cada_jax.data.preparation import prepared_folder
class Writer(tf.io.TFRecordWriter):
    def write(self, record):
        super().write(record)
        os.kill(os.getpid(), signal.SIGKILL)
tf.io.TFRecordWriter = Writer
from pathlib import Path
prepared_folder.write_records(make_builder(Path(sys.argv[1])), SOURCE)
"""


def test_a_killed_preparation_leaves_nothing_that_counts_and_the_next_one_tidies_up(
    tmp_path, capsys
):
    ran = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    builder = make_builder(tmp_path)
    (left,) = left_in(tmp_path)
    assert left.startswith("incomplete.") and not prepared_folder.is_prepared(builder)
    prepared_folder.write_records(builder, SOURCE)
    assert f"{left}, which an interrupted preparation left" in capsys.readouterr().out
    assert prepared_folder.is_prepared(builder)
    assert left_in(tmp_path) == [Path(builder.data_dir).name]


def test_two_at_once_prepare_once(tmp_path):
    """The second waits, and finds everything there."""
    code = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "os.write(1, b'written')")
    start = [sys.executable, "-c", code, str(tmp_path)]
    runs = [subprocess.Popen(start, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sorted(text.count("written") for text in printed) == [0, 7]
    assert prepared_folder.is_prepared(make_builder(tmp_path))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "No space left on device"),
        KeyboardInterrupt(),
    ],
)
def test_a_disk_that_fills_up_or_ctrl_c_leaves_nothing(tmp_path, monkeypatch, error):
    written = []

    class Full(tf.io.TFRecordWriter):
        def write(self, record):
            super().write(record)
            written.append(record)
            if len(written) == 3:
                raise error

    monkeypatch.setattr(tf.io, "TFRecordWriter", Full)
    with pytest.raises(type(error)):
        prepared_folder.write_records(make_builder(tmp_path), SOURCE)
    assert len(written) == 3 and left_in(tmp_path) == []


def test_a_damaged_image_or_a_faulty_list_is_named_and_nothing_is_left(tmp_path):
    source = shutil.copytree(SOURCE, tmp_path / "source")
    image = source / "imgs" / "0002_c01_0005.jpg"
    image.write_bytes(image.read_bytes()[:-200])
    with pytest.raises(UsageError, match=r"0002_c01_0005\.jpg cannot be decoded"):
        prepared_folder.write_records(make_builder(tmp_path), source)
    image.unlink()
    with pytest.raises(UsageError, match=r"has 1 problems:\n  entry \d: image .* is missing"):
        prepared_folder.write_records(make_builder(tmp_path), source)
    assert left_in(tmp_path) == []


def test_a_folder_that_is_no_preparation_is_not_touched(tmp_path):
    builder = make_builder(tmp_path)
    Path(builder.data_dir).mkdir(parents=True)
    (Path(builder.data_dir) / "mine.txt").touch()
    with pytest.raises(UsageError, match="no complete preparation: digests.json is missing"):
        prepared_folder.write_records(builder, SOURCE)
    assert (Path(builder.data_dir) / "mine.txt").exists()


def test_worker_processes_read_what_one_process_reads(tmp_path):
    images = sorted((SOURCE / "imgs").iterdir())
    (tmp_path / "broken.jpg").write_text("no image")
    paths = [*map(str, images), str(tmp_path / "broken.jpg"), str(tmp_path)]
    captions = ("A man in a red top.",)
    entries = [
        Entry(f"entry {i}", f"image {i}", captions, "7", "train", path, 7)
        for i, path in enumerate(paths * 5)
    ]
    settings = (VOCABULARY, 20, "grammar", "word")
    alone, together = (list(read_all(entries, settings, workers)) for workers in (0, 2))
    assert alone == together
    problems = [read.problem for read in alone[len(images) : len(paths)]]
    assert "cannot be decoded" in problems[0] and "cannot be read" in problems[1]
    assert all(bool(read.example) == (read.problem is None) for read in alone)


def test_a_worker_imports_no_tensorflow():
    """Or every one of them would take seconds and half a gigabyte to start."""
    code = f"import sys, {reader.__name__} as _; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
