"""One thread owns the device; queries that wait together are answered together.

Work is done in the order in which it came. A run of queries becomes one batch; other work is done
alone. When a batch fails, its queries are asked again one by one, so that a query that cannot be
answered fails alone.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException

from cada_jax.retrieval.query import Query

Work = Query | Callable[[], Any]


class _Job(NamedTuple):
    work: Work
    future: Future
    came: float


class DeviceQueue:
    """Takes work from any thread and does it in one.

    Args:
      search: answers a batch of queries, one answer for each in order.
      max_batch: queries answered at once.
      max_wait: seconds that the first query of a batch waits for others.
      max_depth: waiting jobs; one more is refused.
    """

    def __init__(
        self,
        search: Callable[[Sequence[Query]], Sequence[Any]],
        max_batch: int = 16,
        max_wait: float = 0.002,
        max_depth: int = 128,
    ):
        self._search = search
        self._max_batch, self._max_wait, self._max_depth = max_batch, max_wait, max_depth
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Jobs that wait."""
        return self._jobs.qsize()

    def submit(self, work: Work) -> Future:
        """Queues a query, or a function that is called alone; the result comes with the future.

        A future that is cancelled before its turn costs the device nothing.

        Raises:
          HTTPException: 429, too much waits.
        """
        if self.depth >= self._max_depth:
            text = f"{self.depth} queries wait already, try again in a second"
            raise HTTPException(429, text, {"Retry-After": "1"})
        job = _Job(work, Future(), time.monotonic())
        self._jobs.put(job)
        return job.future

    def close(self, timeout: float | None = None) -> None:
        """Finishes what waits and ends the thread; `timeout` bounds the seconds that takes."""
        self._jobs.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        held: list[_Job | None] = []  # what came after a batch and is no part of it
        while (first := held.pop() if held else self._jobs.get()) is not None:
            jobs, until = [first], first.came + self._max_wait
            while isinstance(first.work, Query) and len(jobs) < self._max_batch:
                try:
                    following = self._jobs.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if following is None or not isinstance(following.work, Query):
                    held.append(following)
                    break
                jobs.append(following)
            jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if len(jobs) == 1:
                _settle(jobs[0], self._call(jobs[0].work))
            elif jobs:
                self._answer_together(jobs)

    def _call(self, work: Work) -> Callable[[], Any]:
        return (lambda: self._search([work])[0]) if isinstance(work, Query) else work

    def _answer_together(self, jobs: list[_Job]) -> None:
        try:
            answers = self._search([job.work for job in jobs if isinstance(job.work, Query)])
            answered = list(zip(jobs, answers, strict=True))
        except Exception:
            for job in jobs:
                _settle(job, self._call(job.work))
            return
        for job, answer in answered:
            job.future.set_result(answer)


def _settle(job: _Job, call: Callable[[], Any]) -> None:
    try:
        job.future.set_result(call())
    except BaseException as error:
        job.future.set_exception(error)
