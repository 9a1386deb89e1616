"""One process at a time; the other is told which one it waits for."""

import subprocess
import sys

import pytest

from cada_jax.common import folder_lock
from cada_jax.common.errors import UsageError

HOLDER = """
import sys
from cada_jax.common import folder_lock
with folder_lock.locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """A process that holds the lock until its stdin is closed, or it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_which_one_holds_the_folder(tmp_path, other):
    with pytest.raises(UsageError) as error:
        with folder_lock.locked(tmp_path / "lock"):
            pass
    text = str(error.value)
    assert f"{tmp_path} is in use by process {other.pid} on " in text and ", started 20" in text
    assert len(text.splitlines()) == 1
    other.kill()
    other.wait()
    with folder_lock.locked(tmp_path / "lock"):  # a killed process holds nothing
        pass


def test_whoever_waits_says_for_whom_and_goes_on(tmp_path, other, capfd, monkeypatch):
    lock = folder_lock._lock

    def ends_the_other(file, wait):
        if wait:
            other.stdin.close()
        return lock(file, wait)

    monkeypatch.setattr(folder_lock, "_lock", ends_the_other)
    with folder_lock.locked(tmp_path / "lock", wait=True):
        pass
    assert f"Waiting for process {other.pid} on " in capfd.readouterr().out


def test_one_process_may_enter_twice_and_holds_it_until_it_has_left_twice(tmp_path):
    def tried():
        take = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
        return subprocess.run(take, input="", capture_output=True, text=True)

    first, second = (folder_lock.locked(tmp_path / "lock") for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert "is in use by process" in tried().stderr
    second.__exit__(None, None, None)
    assert tried().stdout == "held\n"


def test_a_file_system_without_locks_lets_everybody_in(tmp_path, other, monkeypatch):
    import fcntl

    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with folder_lock.locked(tmp_path / "lock"):
        pass
