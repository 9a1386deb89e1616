"""The audit log: whole lines, readable for one, and no answer without a line."""

import concurrent.futures
import fcntl
import json
import os
import resource
import stat
import threading

import pytest

from cada_jax.common.errors import UsageError
from cada_jax.gallery.audit import AuditError, AuditLog

WHO = {"client": "127.0.0.1", "token": ""}


def lines(path) -> list[dict]:
    text = path.read_text(encoding="ascii")
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


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


def test_a_program_that_locks_the_file_keeps_nobody_from_writing(tmp_path):
    audit = AuditLog(tmp_path / "audit.jsonl")
    with open(audit.path, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        audit.write("search", WHO, q="meanwhile")
    assert [entry["q"] for entry in lines(audit.path)] == ["meanwhile"]


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


@pytest.mark.parametrize("place", ["", "none/audit.jsonl", "pipe", "photo.jpg"])
def test_what_is_no_audit_log_is_refused_at_the_start_and_stays_as_it_is(tmp_path, place):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "photo.jpg").write_bytes(b"a picture")
    with pytest.raises(UsageError, match="--audit_log="):
        AuditLog(tmp_path / place)
    assert (tmp_path / "photo.jpg").read_bytes() == b"a picture"


def test_any_text_makes_one_line(tmp_path):
    audit = AuditLog(tmp_path / "audit.jsonl")
    text = "\r\n\x00\u2028\ud800 Zoë " + os.fsdecode(b"\xff")
    audit.write("search", WHO, q=text)
    (entry,) = lines(tmp_path / "audit.jsonl")
    assert entry["q"] == text
