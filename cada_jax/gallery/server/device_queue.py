"""One thread owns the device; queries that wait together are answered together.

Work is done in the order in which it came. A run of queries becomes one batch; other work is done
alone. When a batch fails, its queries are asked again one by one, so that a query that cannot be
answered fails alone.
"""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from cada_jax.gallery.server.problems import busy, unavailable
from cada_jax.retrieval.query import Query


@dataclasses.dataclass(frozen=True)
class QueueOptions:
    """How much waits, and how long.

    Attributes:
      max_batch: queries answered at once.
      max_wait: seconds that the first query of a batch waits for others.
      max_depth: waiting jobs; one more is refused.
    """

    max_batch: int = 16
    max_wait: float = 0.002
    max_depth: int = 128


@dataclasses.dataclass(frozen=True)
class _Job:
    work: Query | Callable[[], Any]
    future: Future
    came: float


class DeviceQueue:
    """Takes work from any thread and does it in one.

    Args:
      search: answers a batch of queries, one answer for each in order.
      options: bounds.
      observe: called as observe("batch", number of queries) and observe("wait", seconds).
    """

    def __init__(
        self,
        search: Callable[[Sequence[Query]], Sequence[Any]],
        options: QueueOptions | None = None,
        observe: Callable[[str, float], None] | None = None,
    ):
        self._search = search
        self._options = options or QueueOptions()
        self._observe = observe or (lambda name, value: None)
        self._jobs: collections.deque[_Job] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Jobs that wait."""
        return len(self._jobs)

    def submit(self, work: Query | Callable[[], Any]) -> Future:
        """Queues a query, or a function that is called alone; the result comes with the future.

        A future that is cancelled before its turn costs the device nothing.

        Raises:
          Problem: 429, too much waits; 503, the queue is closed.
        """
        with self._changed:
            if self._closed:
                raise unavailable("the server is stopping and takes no new queries")
            if len(self._jobs) >= self._options.max_depth:
                raise busy(f"{len(self._jobs)} queries wait already, try again in a second")
            job = _Job(work, Future(), time.monotonic())
            self._jobs.append(job)
            self._changed.notify()
            return job.future

    def close(self, timeout: float | None = None) -> None:
        """Takes nothing new, finishes what waits, and ends the thread.

        Args:
          timeout: seconds to wait for it; what is left is answered with 503.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)
        with self._changed:
            left, self._jobs = list(self._jobs), collections.deque()
        for job in left:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(unavailable("the server stopped before this query's turn"))

    def _run(self) -> None:
        while jobs := self._next():
            for job in jobs:
                self._observe("wait", time.monotonic() - job.came)
            if isinstance(jobs[0].work, Query):
                self._observe("batch", len(jobs))
                self._answer(jobs)
            else:
                _settle(jobs[0], jobs[0].work)

    def _next(self) -> list[_Job]:
        """The next batch of queries, or one other job; none when the queue is closed and empty."""
        with self._changed:
            while True:
                self._drop_cancelled()
                if not self._jobs:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                self._wait_for_company()
                self._drop_cancelled()
                if jobs := self._take():
                    return jobs

    def _wait_for_company(self) -> None:
        """Waits until a batch is full, its first query has waited enough, or other work came."""
        if not isinstance(self._jobs[0].work, Query):
            return
        until = self._jobs[0].came + self._options.max_wait
        while self._run_length() == len(self._jobs) < self._options.max_batch:
            left = until - time.monotonic()
            if left <= 0 or self._closed:
                return
            self._changed.wait(left)

    def _run_length(self) -> int:
        count = 0
        for job in self._jobs:
            if not isinstance(job.work, Query):
                break
            count += 1
        return count

    def _drop_cancelled(self) -> None:
        self._jobs = collections.deque(job for job in self._jobs if not job.future.cancelled())

    def _take(self) -> list[_Job]:
        count = min(max(self._run_length(), 1), self._options.max_batch, len(self._jobs))
        taken = [self._jobs.popleft() for _ in range(count)]
        return [job for job in taken if job.future.set_running_or_notify_cancel()]

    def _answer(self, jobs: list[_Job]) -> None:
        queries = [job.work for job in jobs if isinstance(job.work, Query)]
        try:
            answered = list(zip(jobs, self._search(queries), strict=True))
        except BaseException as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job, query in zip(jobs, queries, strict=True):
                _settle(job, lambda query=query: self._search([query])[0])
            return
        for job, answer in answered:
            job.future.set_result(answer)


def _settle(job: _Job, work: Any) -> None:
    try:
        job.future.set_result(work())
    except BaseException as error:
        job.future.set_exception(error)
