"""From a folder of pictures to a served gallery: the commands, as a user runs them."""

import os
import signal
import subprocess
import sys

import httpx
import pytest

from tests.conftest import FAST_COMPILE, REPOSITORY
from tests.gallery.server.double import write_people

WORDS = "a man in a red coat"
ENVIRONMENT = {**os.environ, "XLA_FLAGS": FAST_COMPILE}


def command(name: str, *flags: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "cada_jax", name, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=ENVIRONMENT,
    )


def start(*flags: str) -> subprocess.Popen:
    return command("serve", "--port=0", "--no_warm_up", *flags)


@pytest.mark.slow
def test_an_indexed_folder_is_served_and_given_back(tmp_path):
    folder, db = tmp_path / "a folder; with #signs", tmp_path / "people.db"
    folder.mkdir()
    write_people(folder, 8)
    index = ["--model=pretrained:synthetic", f"--images={folder}", f"--db={db}"]
    indexing = command("index", *index)
    indexing.communicate(timeout=180)
    assert indexing.returncode == 0
    process = start(f"--db={db}", f"--audit_log={tmp_path / 'audit.jsonl'}")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving 8 pictures at http://127.0.0.1:"), process.communicate()
        with httpx.Client(base_url=line.split()[-1], timeout=120) as client:
            found = client.get("api/search", params={"q": WORDS, "k": 5}).json()
            assert len(found["results"]) == 5
            below = {"q": WORDS, "folder": str(folder), "rerank": 0}
            assert len(client.get("api/search", params=below).json()["results"]) == 8
            elsewhere = {"q": WORDS, "folder": str(tmp_path / "elsewhere"), "rerank": 0}
            assert client.get("api/search", params=elsewhere).json()["results"] == []
            summary = client.get("api/gallery").json()
            assert summary["pictures"] == 8 and summary["model_path"] == "pretrained:synthetic"
            thumbnail = f"api/{found['results'][0]['thumbnail']}"
            assert client.get(thumbnail).headers["content-type"] == "image/jpeg"
            assert len(list((db / "thumbnails").rglob("*.jpg"))) == 1
            os.unlink(found["results"][0]["path"])
            assert client.get(thumbnail).status_code == 410
            assert client.get("healthz").json()["gallery_size"] == 8
        refused = start(f"--db={db}")
        _, errors = refused.communicate(timeout=120)
        assert refused.returncode == 2 and errors.count("\n") == 1
        assert str(process.pid) in errors  # which process holds the gallery
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in errors
    assert (tmp_path / "audit.jsonl").read_text().count('"event": "search"') == 3
    # The server let go of the gallery: it can be brought up to date.
    indexing = command("index", *index)
    printed, errors = indexing.communicate(timeout=180)
    assert indexing.returncode == 0 and "7" in printed + errors
