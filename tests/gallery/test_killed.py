"""The command is killed at random moments and run again: the gallery is as an undisturbed one."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from cada_jax.data.datasets.synthetic import people
from tests.gallery.in_memory import load_small_model
from tests.gallery.processes import REPOSITORY
from tests.gallery.tiny import held_by, snapshot

KILLS = 20
OLD, NEW = 40, 640


def _pictures(count):
    for i, example in enumerate(people.generate(people.VARIANTS["pretrain"], "train")):
        if i == count:
            return
        yield example.jpeg
    raise ValueError("too few")


def _start(folder, db):
    command = [sys.executable, "-m", "cada_jax", "index", "--model=pretrained:synthetic"]
    command += [f"--images={folder}", f"--db={db}", "--json"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _killed(folder, db, moment):
    """Starts, and kills so many seconds after the gallery was opened; False if it ended before."""
    process = _start(folder, db)
    try:
        while str(process.pid) not in (db / "lock").read_text():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return process.returncode == -signal.SIGKILL


def _run(folder, db):
    process = _start(folder, db)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(out)


def _change(folder, jpegs):
    """New, changed, moved and deleted files."""
    for i in range(OLD, NEW):
        (folder / f"{i}.jpg").write_bytes(jpegs[i])
    for i in range(10):
        (folder / f"{i}.jpg").write_bytes(jpegs[NEW + i])
        (folder / f"{10 + i}.jpg").rename(folder / f"moved{i}.jpg")
        (folder / f"{20 + i}.jpg").unlink()


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_and_repeated_ends_as_an_undisturbed_one(tmp_path):
    retriever = load_small_model()
    photos = tmp_path / "photos"
    photos.mkdir()
    jpegs = list(_pictures(NEW + 10))
    for i in range(OLD):
        (photos / f"{i}.jpg").write_bytes(jpegs[i])
    _run(photos, tmp_path / "base")
    _change(photos, jpegs)
    shutil.copytree(tmp_path / "base", tmp_path / "undisturbed")
    report = _run(photos, tmp_path / "undisturbed")
    expected = snapshot(tmp_path / "undisturbed", retriever)
    assert len(expected) == NEW - 10 == report["pictures"]
    print(f"\nundisturbed: {report['seconds']:.1f} s of indexing")
    draw, reached = random.Random(0), []
    while len(reached) < KILLS:
        db = tmp_path / f"killed{len(reached)}"
        shutil.rmtree(db, ignore_errors=True)
        shutil.copytree(tmp_path / "base", db)
        moment = draw.uniform(0, report["seconds"])
        if not _killed(photos, db, moment):
            continue
        tokens = sum(1 for path in (db / "tokens").rglob("*/*"))
        pictures = len(snapshot(db, retriever))
        again = _run(photos, db)
        found = snapshot(db, retriever)
        assert set(found) == set(expected)
        pairs = [(found[key], expected[key]) for key in expected]
        vectors = max(np.abs(a[1] - b[1]).max() for a, b in pairs)
        difference = max(np.abs(np.float32(a[2]) - np.float32(b[2])).max() for a, b in pairs)
        reached.append((tokens, pictures))
        print(
            f"killed after {moment:.2f} s with {tokens} tokens and {pictures} records there; "
            f"repeated: {again['encoded']} encoded; largest difference of vectors {vectors}, of "
            f"tokens {difference}"
        )
        assert held_by(found) == held_by(expected)
        kept = {path.name for path in (db / "tokens").rglob("*/*")}
        assert kept == {path.name for path in (tmp_path / "undisturbed/tokens").rglob("*/*")}
        shutil.rmtree(db)
    assert len(set(reached)) > 3, "the kills hit one stage only"
