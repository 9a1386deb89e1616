"""The audit log: whole lines, readable for one, and no answer without a line."""

import concurrent.futures
import json
import os
import resource
import stat
import threading

import pytest

from cada_jax.common.errors import UsageError
from cada_jax.gallery.audit import AuditError, AuditLog
from cada_jax.gallery.server.tokens import Tokens
from tests.gallery.server.running import ListedGallery, running, stand_in, write_picture

WHO = {"client": "127.0.0.1", "token": ""}


def lines(path) -> list[dict]:
    text = path.read_text(encoding="ascii")
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_tells_who_asked_what_when_and_what_was_shown(tmp_path):
    gallery = ListedGallery([write_picture(tmp_path / "a.png")])
    (id,) = gallery.pictures
    audit = AuditLog(tmp_path / "audit.jsonl")
    tokens = Tokens({"alice": "secret"})
    with running(gallery, stand_in(), audit=audit, tokens=tokens) as server:
        server.client.headers["Authorization"] = "Bearer secret"
        server.client.get("api/search", params={"q": "a coat\nwith a line break", "k": 3})
        server.client.get(f"api/pictures/{id}")
        server.client.get(f"api/pictures/{id}/image")
        server.client.get(f"api/pictures/{id}/association?q=coat")
        server.client.get(f"api/pictures/{id}/attributes")
        server.client.get("api/search?q=coat", headers={"Authorization": "Bearer wrong"})
    entries = lines(tmp_path / "audit.jsonl")
    events = [entry["event"] for entry in entries]
    assert events == ["search", "record", "image", "association", "attributes"]
    for entry in entries:
        assert entry["client"] == "127.0.0.1" and entry["token"] == "alice"
        assert entry["ids"] == [id] and entry["time"].endswith("+00:00")
    assert entries[0]["query"]["q"] == ["a coat\nwith a line break"]
    assert entries[3]["q"] == "coat"


def test_no_answer_leaves_without_its_line(tmp_path):
    """A full disk stands here for every reason: the file's place was taken by a folder."""
    gallery = ListedGallery([write_picture(tmp_path / "a.png")])
    path = tmp_path / "audit.jsonl"
    audit = AuditLog(path)
    with running(gallery, stand_in(), audit=audit) as server:
        assert server.client.get("api/search?q=coat").status_code == 200
        path.unlink()
        path.mkdir()
        answer = server.client.get("api/search?q=coat")
        assert answer.status_code == 503 and "audit log cannot be written" in answer.text
        assert "results" not in answer.text
        health = server.client.get("healthz")
        assert health.status_code == 503 and health.json()["state"] == "no audit log"
        path.rmdir()
        assert server.client.get("api/search?q=coat").status_code == 200
        assert server.client.get("healthz").status_code == 200
    assert len(lines(path)) == 1


def test_a_half_line_that_did_not_fit_is_removed(tmp_path):
    path = tmp_path / "audit.jsonl"
    audit = AuditLog(path)
    audit.write("search", WHO, q="first")
    room = path.stat().st_size + 20
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(AuditError):
            audit.write("search", WHO, q="second, which is longer than twenty bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert [entry["q"] for entry in lines(path)] == ["first"]
    audit.write("search", WHO, q="third")
    assert [entry["q"] for entry in lines(path)] == ["first", "third"]


def test_many_writers_write_whole_lines(tmp_path):
    logs = [AuditLog(tmp_path / "audit.jsonl") for _ in range(4)]
    barrier = threading.Barrier(8)

    def write(i: int) -> None:
        barrier.wait(30)
        for j in range(50):
            logs[i % 4].write("search", WHO, number=i * 50 + j, filler="x" * (j * 100))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert sorted(entry["number"] for entry in lines(tmp_path / "audit.jsonl")) == list(range(400))


def test_a_file_that_was_moved_away_is_followed_by_a_new_one(tmp_path):
    path = tmp_path / "audit.jsonl"
    audit = AuditLog(path)
    audit.write("search", WHO, q="old")
    path.rename(tmp_path / "audit.jsonl.1")
    audit.write("search", WHO, q="new")
    assert [entry["q"] for entry in lines(path)] == ["new"]
    assert [entry["q"] for entry in lines(tmp_path / "audit.jsonl.1")] == ["old"]


def test_what_is_there_is_kept_and_nobody_else_may_read_it(tmp_path):
    path = tmp_path / "audit.jsonl"
    AuditLog(path).write("search", WHO, q="first")
    AuditLog(path).write("search", WHO, q="second")
    assert [entry["q"] for entry in lines(path)] == ["first", "second"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("place", ["", "none/audit.jsonl", "file/audit.jsonl"])
def test_a_file_that_cannot_be_written_is_refused_at_the_start(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--audit_log=.*cannot be written"):
        AuditLog(tmp_path / place)


def test_any_text_makes_one_line(tmp_path):
    audit = AuditLog(tmp_path / "audit.jsonl")
    text = "\r\n\x00\u2028\ud800 Zoë " + os.fsdecode(b"\xff")
    audit.write("search", WHO, q=text)
    (entry,) = lines(tmp_path / "audit.jsonl")
    assert entry["q"] == text
