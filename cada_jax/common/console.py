"""What a run says on the console, and where its time went."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

import jax
from tqdm import tqdm

# progress(iterable, total, text) yields what the iterable yields; see `progress_bar`.
Progress = Callable[[Iterable, int, str], Iterable]
# A terminal's status line is rewritten no more often than this.
REFRESH_SECONDS = 0.2


def say(message: str) -> None:
    """Prints a message for the user, from one process only."""
    if jax.process_index() == 0:
        print(message, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """12.3 -> "12 s", 200 -> "3 min 20 s", 7260 -> "2 h 01 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def progress_bar(items: Iterable, total: int, text: str) -> Iterable:
    """A tqdm bar with the time left; in a log file a line every half minute."""
    return tqdm(
        items,
        desc=text,
        total=total,
        leave=False,
        disable=jax.process_index() != 0,
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
    )


class Timers:
    """Seconds spent in named parts of the program."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._start = time.monotonic()

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Adds the time of the `with` block to the part `name`."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start

    def summary(self) -> str:
        """One line: the whole time, and the parts in the order they first came."""
        total = time.monotonic() - self._start
        parts = dict(self.seconds)
        parts["other"] = total - sum(parts.values())
        listed = ", ".join(f"{name} {duration(s)}" for name, s in parts.items() if s >= 0.5)
        return f"{duration(total)} in all" + (f": {listed}" if listed else "")


class StepProgress:
    """One line for each report, and on a terminal a status line rewritten in between.

    Args:
      step: updates done when this process starts.
      total: updates the run will have done at its end.
      steps_per_epoch: > 0.
      batch_size: pairs in a global batch.
      stream: where to write; stderr unless given.
    """

    def __init__(
        self,
        step: int,
        total: int,
        steps_per_epoch: int,
        batch_size: int,
        stream: TextIO | None = None,
    ):
        self._total = total
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._first: tuple[int, float | None] = (step, None)  # (step, time) to measure from
        self._last: tuple[int, float | None] = self._first
        self._shown_at = 0.0
        self._losses = ""
        self._rate = 0.0

    def tick(self, step: int) -> None:
        """Called after every update; the first call starts the clock, so it leaves out compiling.

        Args:
          step: updates done.
        """
        now = time.monotonic()
        if self._first[1] is None:
            self._first = self._last = (step, now)
        if self._terminal and now - self._shown_at >= REFRESH_SECONDS:
            self._write(f"\r\x1b[K{self._line(step, now)}")
            self._shown_at = now

    def report(self, step: int, losses: dict[str, float]) -> float:
        """Prints one line with the losses given.

        Args:
          step: updates done.
          losses: values by name, in the order to print them.

        Returns:
          Pairs a second since the last report (0 at the first).
        """
        now = time.monotonic()
        last_step, last_time = self._last
        if last_time is not None and step > last_step and now > last_time:
            self._rate = (step - last_step) * self._batch_size / (now - last_time)
        self._last = (step, now)
        self._losses = "".join(f"  {name} {value:.4g}" for name, value in losses.items())
        self._write(f"{self._clear()}{self._line(step, now)}\n")
        return self._rate

    def close(self) -> None:
        """Removes the status line."""
        self._write(self._clear())

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A stretch that is no training: not counted in pairs a second, but in the time left."""
        self._write(self._clear())
        start = time.monotonic()
        yield
        step, last_time = self._last
        if last_time is not None:
            self._last = (step, last_time + time.monotonic() - start)

    def _line(self, step: int, now: float) -> str:
        width = len(str(self._total))
        line = f"step {step:>{width}}/{self._total}  epoch {step / self._steps_per_epoch:.2f}"
        line += self._losses
        if self._rate:
            line += f"  {self._rate:.3g} pairs/s"
        first_step, first_time = self._first
        if first_time is not None and step > first_step:
            left = (now - first_time) / (step - first_step) * (self._total - step)
            line += f"  {duration(left)} left"
        return line

    def _clear(self) -> str:
        return "\r\x1b[K" if self._terminal else ""

    def _write(self, text: str) -> None:
        if text and jax.process_index() == 0:
            self._stream.write(text)
            self._stream.flush()
