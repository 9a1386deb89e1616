"""Runs of an ablation in processes, some at a time, each on CPUs of its own."""

import concurrent.futures
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

from cada_jax.common.errors import UsageError
from tools.ablation.runs import Run

Start = Callable[[Run], int]  # -> exit code, as of `cada_jax.main`
STOPPED = 143


class Processes:
    """Starts processes, from any thread, and ends those that are left."""

    def __init__(self) -> None:
        self._live: set[subprocess.Popen] = set()
        self._ended = False
        self._lock = threading.Lock()

    def run(self, argv: Sequence[str], log: pathlib.Path) -> int:
        """Runs a command, adds what it says to its log, and returns its exit code."""
        with log.open("a", encoding="utf-8") as file:
            with self._lock:
                if self._ended:
                    return STOPPED
                process = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT)
                self._live.add(process)
            return process.wait()

    def end(self) -> None:
        """Sends SIGTERM to all, on which a run saves its state, and lets no other begin."""
        with self._lock:
            self._ended = True
            for process in self._live:
                process.terminate()


def available_cpus() -> list[int]:
    """The CPUs that this process may use; none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cpu_shares(jobs: int) -> list[set[int]]:
    """The CPUs of this process, dealt out to `jobs`; for one job an empty set, which binds nothing.

    Threads that compute one product wait for each other. Processes that share their CPUs keep each
    other waiting so; on CPUs of their own they do not.

    Raises:
      UsageError: there are fewer CPUs than jobs.
    """
    if jobs == 1:
        return [set()]
    cpus = available_cpus()
    if len(cpus) < jobs:
        raise UsageError(
            f"--jobs={jobs}: expected at most one for each CPU that this process may use, of which "
            f"there are {len(cpus) or 'an unknown number on this system'}; give fewer, or 1"
        )
    return [set(cpus[i::jobs]) for i in range(jobs)]


def run_all(
    runs: Sequence[Run],
    start: Start,
    shares: Sequence[set[int]] = (set(),),
    end: Callable[[], None] = lambda: None,
) -> list[Run]:
    """Runs what is not done yet; returns the runs that diverged.

    Args:
      runs: from `plan`.
      start: runs one of them.
      shares: as many run at a time, each on its CPUs; from `cpu_shares`.
      end: ends what `start` began, when one run failed or this process is told to stop.

    Raises:
      UsageError: a run could not start or was stopped; the next one would end so too.
    """
    waiting = list({run.folder: run for run in runs if not run.done}.values())
    distinct = len({run.folder for run in runs})
    free: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
    for share in shares:
        free.put(share)

    def take_share() -> None:
        share = free.get()
        if share:  # a thread's CPUs are those of the processes that it starts
            os.sched_setaffinity(threading.get_native_id(), share)

    print(f"{distinct} runs, {distinct - len(waiting)} of them done before", file=sys.stderr)
    with concurrent.futures.ThreadPoolExecutor(len(shares), initializer=take_share) as pool:
        futures = [pool.submit(_run, start, run) for run in waiting]
        try:
            for number, future in enumerate(concurrent.futures.as_completed(futures), start=1):
                print(f"[{number}/{len(waiting)}] {future.result()}", file=sys.stderr)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end()
            raise
    return [run for run in waiting if not run.done]


def _run(start: Start, run: Run) -> str:
    """Runs one; returns a line on what it found."""
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    code = start(run)
    if code == 1:
        return f"{run.folder.name}: failed, see {run.log}"
    if code or not run.done:
        raise UsageError(
            f"{run.folder.name} ended with exit code {code}: see the last lines of {run.log}. "
            "The same command continues."
        )
    results = json.loads((run.folder / "results.json").read_text(encoding="utf-8"))
    figures = (f"{stage} R1 {results[stage]['R1']:.2f}" for stage in ("global", "reranked"))
    return f"{run.folder.name}: {', '.join(figures)}"
