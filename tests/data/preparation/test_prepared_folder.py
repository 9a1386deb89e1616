"""A preparation is whole or absent: killed, out of room, damaged later, run by two at once."""

import errno
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tensorflow as tf
from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.data import registry
from cada_jax.data.preparation import prepared_folder, reader
from cada_jax.data.preparation.features import caption_config
from cada_jax.data.preparation.reader import EncoderSettings, Job, read_all
from tests.conftest import DATASETS

SOURCE = DATASETS / "rstp" / "dummy_data"
VOCABULARY = str(SOURCE / "vocab.txt")
PROBLEMS = ("cannot be decoded", "missing", "cannot be read")


def make_builder(folder: Path):
    return registry.PUBLISHED["rstp"](data_dir=str(folder), config=caption_config(VOCABULARY))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    prepared_folder.write_records(make_builder(folder), SOURCE)
    return folder


@pytest.fixture
def copy(prepared, tmp_path):
    """A builder over its own copy of prepared records, and their folder."""
    shutil.copytree(prepared, tmp_path / "copy")
    builder = make_builder(tmp_path / "copy")
    return builder, Path(builder.data_dir)


def test_what_was_written_is_whole(copy):
    builder, folder = copy
    assert prepared_folder.find_defect(folder) is None and prepared_folder.is_prepared(builder)


def cut(folder):
    path = next(folder.glob("*train.tfrecord*"))
    path.write_bytes(path.read_bytes()[:-100])


def lose(folder):
    next(folder.glob("*test.tfrecord*")).unlink()


def garble(folder):
    (folder / "dataset_info.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "named"), [(cut, "records of train"), (lose, "test.tfrecord"), (garble, "info.json")]
)
def test_a_folder_that_was_damaged_later_is_noticed(copy, tmp_path, damage, named):
    builder, folder = copy
    damage(folder)
    assert named in prepared_folder.find_defect(folder)
    assert not prepared_folder.is_prepared(builder)
    with pytest.raises(UsageError, match="not a complete preparation.*remove that folder"):
        prepared_folder.write_records(builder, SOURCE)
    if damage is garble:
        with pytest.raises(UsageError, match="damaged.*Remove that folder.*cada_jax prepare"):
            config = ConfigDict({"data": {"name": "rstp", "data_dir": str(tmp_path / "copy")}})
            config.data.update(vocab=VOCABULARY, variant=None, max_length=73)
            config.data.update(tagger="pattern", tag_unit="word")
            registry.make_builder(config)
    assert folder.exists(), "what somebody else wrote is not ours to remove"


def test_what_a_killed_preparation_left_is_removed(copy, capsys):
    builder, folder = copy
    left = folder.with_name(f"incomplete.0A1B2C_{folder.name}")
    folder.rename(left)
    assert not prepared_folder.is_prepared(builder)
    prepared_folder.write_records(builder, SOURCE)
    assert f"Removing {left}" in capsys.readouterr().out
    assert prepared_folder.is_prepared(builder)
    assert [p.name for p in folder.parent.iterdir() if p.is_dir()] == [folder.name]


def test_two_at_once_prepare_once(tmp_path, monkeypatch):
    """The second waits, and finds everything there."""
    calls, started, go = [], threading.Event(), threading.Event()
    builders = [make_builder(tmp_path) for _ in range(2)]
    original = type(builders[0]).download_and_prepare

    def slow(builder, **options):
        calls.append(builder)
        started.set()
        assert go.wait(60)
        original(builder, **options)

    monkeypatch.setattr(type(builders[0]), "download_and_prepare", slow)
    threads = [
        threading.Thread(target=prepared_folder.write_records, args=(b, SOURCE), daemon=True)
        for b in builders
    ]
    for thread in threads:
        thread.start()
        assert started.wait(60)
    go.set()
    for thread in threads:
        thread.join(60)
    assert len(calls) == 1 and prepared_folder.is_prepared(builders[1])


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "No space left on device"),
    ],
)
def test_a_disk_that_fills_up_is_one_message_and_leaves_nothing(
    tmp_path, monkeypatch, error, wrapped
):
    written = []

    class Full(tf.io.TFRecordWriter):
        def write(self, record):
            super().write(record)
            written.append(record)
            if len(written) < 3:
                return
            try:
                raise error
            except Exception as err:
                if wrapped:  # as TFDS does to some
                    raise RuntimeError("Failed to finalize writing") from err
                raise

    monkeypatch.setattr(tf.io, "TFRecordWriter", Full)
    builder = make_builder(tmp_path)
    with pytest.raises(UsageError, match="cannot write prepared data.*No space left.*Make room"):
        prepared_folder.write_records(builder, SOURCE)
    assert len(written) == 3
    assert [path.name for path in tmp_path.glob("rstp/*/*")] == [prepared_folder.LOCK_FILE]
    assert not prepared_folder.is_prepared(builder)


def test_too_little_room_is_told_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UsageError, match="no room for prepared data.*0.0 MB are free"):
        prepared_folder.write_records(make_builder(tmp_path), SOURCE)
    assert not [p for p in tmp_path.rglob("*") if "tfrecord" in p.name]


def test_a_bug_keeps_its_own_exception(tmp_path, monkeypatch):
    builder = make_builder(tmp_path)
    monkeypatch.setattr(type(builder), "_split_generators", lambda *_: {}["absent"])
    with pytest.raises(KeyError):
        prepared_folder.write_records(builder, SOURCE)


def test_the_source_is_only_read(tmp_path):
    """It may lie on a read-only disk."""
    source = shutil.copytree(SOURCE, tmp_path / "source")
    before = {p: p.stat().st_mtime_ns for p in [source, *source.rglob("*")]}
    prepared_folder.write_records(make_builder(tmp_path / "out"), source)
    assert {p: p.stat().st_mtime_ns for p in [source, *source.rglob("*")]} == before


def test_worker_processes_read_what_one_process_reads(tmp_path):
    images = sorted((SOURCE / "imgs").iterdir())
    (tmp_path / "broken.jpg").write_text("no image")
    paths = [*map(str, images), str(tmp_path / "broken.jpg"), None, str(tmp_path)]
    caption = ("A man in a red top.",)
    jobs = [Job(path, f"image {i}", i, caption) for i, path in enumerate(paths * 5)]
    settings = EncoderSettings(VOCABULARY, 20, "pattern", "word")
    alone, together = (list(read_all(jobs, settings, workers)) for workers in (0, 2))
    assert alone == together
    problems = [read.problem for read in alone[len(images) : len(paths)]]
    for problem, words in zip(problems, PROBLEMS, strict=True):
        assert words in problem
    assert all(bool(read.example) == (read.problem is None) for read in alone)


def test_worker_processes_write_the_files_that_one_process_writes(tmp_path):
    folders = []
    for workers in (0, 2):
        builder = make_builder(tmp_path / str(workers))
        builder.workers = workers
        prepared_folder.write_records(builder, SOURCE)
        folders.append(Path(builder.data_dir))
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1] and sum("tfrecord" in name for name in names[0]) == 3
    for name in names[0]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


@pytest.mark.parametrize(
    ("cores", "images", "workers"), [(4, 20000, 4), (64, 20000, 8), (4, 100, 0), (1, 20000, 0)]
)
def test_as_many_workers_as_pay_for_themselves(monkeypatch, cores, images, workers):
    monkeypatch.setattr(reader.os, "sched_getaffinity", lambda _: range(cores), raising=False)
    assert reader.worker_count(images) == workers


def test_a_worker_imports_no_tensorflow():
    """Or every one of them would take seconds and half a gigabyte to start."""
    code = (
        "import sys, cada_jax.data.preparation.reader as _; sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
