"""What an ablation says while its runs go on."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from cada_jax.common.console import duration


class Console:
    """A line for each run, and on a terminal one of progress. Threads may share it.

    Args:
      total: runs there are, without those done before.
      jobs: how many go on at a time.
      stream: where to write.
    """

    def __init__(self, total: int, jobs: int, stream: TextIO):
        self._total, self._jobs, self._stream = total, jobs, stream
        self._begun = 0
        self._seconds: list[float] = []  # of each run that ended
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def run(self, name: str) -> Iterator[Callable[[str], None]]:
        """Says that a run begins; yields what takes its lines."""
        start = time.monotonic()
        with self._lock:
            self._begun += 1
            self._say(f"[{self._begun}/{self._total}] {name}{self._left()}")
        yield lambda line: self._status(name, line)
        with self._lock:
            self._seconds.append(time.monotonic() - start)

    def _left(self) -> str:
        if not self._seconds:
            return ""
        mean = sum(self._seconds) / len(self._seconds)
        rest = mean * (self._total - len(self._seconds)) / self._jobs
        return f"  about {duration(rest)} left in all"

    def _status(self, name: str, line: str) -> None:
        if self._stream.isatty() and line:
            with self._lock:
                self._stream.write(f"\r\x1b[K{name}: {line[:100]}")
                self._stream.flush()

    def _say(self, text: str) -> None:
        clear = "\r\x1b[K" if self._stream.isatty() else ""
        self._stream.write(f"{clear}{text}\n")
        self._stream.flush()

    def end(self, name: str, text: str) -> None:
        """Says what became of a run, in the place of its progress."""
        with self._lock:
            self._say(f"    {name}: {text}")
