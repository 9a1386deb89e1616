"""One process at a time; the other is told which one it waits for."""

import subprocess
import sys

import pytest

from cada_jax.common import folder_lock
from cada_jax.common.errors import UsageError

HOLDER = """
import sys, time
from cada_jax.common import folder_lock
folder_lock.acquire(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """A process that holds the lock until its stdin is closed, or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        pipe.close()


def test_a_second_process_is_told_which_one_holds_the_folder(tmp_path, other):
    with pytest.raises(UsageError) as error:
        folder_lock.acquire(tmp_path / "lock")
    text = str(error.value)
    assert f"{tmp_path} is in use by process {other.pid} on " in text and ", started 20" in text
    assert len(text.splitlines()) == 1


def test_a_killed_process_holds_nothing(tmp_path, other):
    other.kill()
    other.wait()
    folder_lock.acquire(tmp_path / "lock")
    folder_lock.release(tmp_path / "lock")


def test_whoever_waits_says_for_whom_and_goes_on(tmp_path, other, capfd, monkeypatch):
    lock = folder_lock._lock

    def ends_the_other(file, wait):
        if wait:
            other.stdin.close()
        return lock(file, wait)

    monkeypatch.setattr(folder_lock, "_lock", ends_the_other)
    folder_lock.acquire(tmp_path / "lock", wait=True)
    folder_lock.release(tmp_path / "lock")
    assert f"Waiting for process {other.pid} on " in capfd.readouterr().out


def test_one_process_may_take_a_lock_twice_and_gives_it_back_twice(tmp_path):
    path = tmp_path / "lock"
    for _ in range(2):
        folder_lock.acquire(path)
    folder_lock.release(path)
    take = [sys.executable, "-c", HOLDER, str(path)]
    tried = subprocess.run(take, input="", capture_output=True, text=True)
    assert "is in use by process" in tried.stderr and "held" not in tried.stdout
    folder_lock.release(path)
    tried = subprocess.run(take, input="", capture_output=True, text=True)
    assert tried.stdout == "held\n"
    folder_lock.release(path)  # not held any more: nothing happens


def test_a_file_system_without_locks_lets_everybody_in(tmp_path, other, monkeypatch):
    import fcntl

    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    folder_lock.acquire(tmp_path / "lock")
    folder_lock.release(tmp_path / "lock")
