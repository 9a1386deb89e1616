"""Runs of an ablation in processes, some at a time, each on CPUs of its own."""

import concurrent.futures
import functools
import json
import os
import pathlib
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import TextIO

from cada_jax.common.errors import UsageError
from tools.ablation.console import Console
from tools.ablation.runs import Run

# A run, and what takes the lines of its progress -> exit code, as of `cada_jax.main`.
Start = Callable[[Run, Callable[[str], None]], int]


class Processes:
    """Starts processes, from any thread, and ends those that are left."""

    def __init__(self) -> None:
        self._live: set[subprocess.Popen] = set()
        self._ended = False
        self._lock = threading.Lock()

    def run(self, argv: Sequence[str], log: pathlib.Path, tell: Callable[[str], None]) -> int:
        """Runs a command, adds what it says to its log, and returns its exit code.

        However this ends, the process has ended too: it gets SIGTERM, and saves its state.

        Args:
          argv: the command.
          log: text file; lines are added.
          tell: gets every line of the command's stderr.
        """
        with log.open("a", encoding="utf-8") as file:
            options = dict(stdout=file, stderr=subprocess.PIPE, text=True, errors="replace")
            with self._lock:
                if self._ended:
                    return 128 + signal.SIGTERM
                process = subprocess.Popen(argv, **options)
                self._live.add(process)
            assert process.stderr is not None  # it is a pipe
            try:
                for line in process.stderr:
                    file.write(line)
                    file.flush()
                    tell(line.rstrip())
                return process.wait()
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    file.writelines(process.stderr)  # what it says of its end
                    process.wait()
                process.stderr.close()
                with self._lock:
                    self._live.remove(process)

    def end(self) -> None:
        """Sends SIGTERM to all, on which a run saves its state, and lets no other begin."""
        with self._lock:
            self._ended = True
            for process in self._live:
                process.send_signal(signal.SIGTERM)


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
    stream: TextIO,
    shares: Sequence[set[int]] = (set(),),
    end: Callable[[], None] = lambda: None,
) -> list[Run]:
    """Runs what is not done yet; returns the runs that diverged.

    Args:
      runs: from `plan`.
      start: runs one of them.
      stream: where to say how it goes.
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

    stream.write(f"{distinct} runs, {distinct - len(waiting)} of them done before\n")
    one = functools.partial(_run, Console(len(waiting), len(shares), stream), start)
    with concurrent.futures.ThreadPoolExecutor(len(shares), initializer=take_share) as pool:
        futures = [pool.submit(one, run) for run in waiting]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end()
            raise
    return [run for run, future in zip(waiting, futures, strict=True) if not future.result()]


def _run(console: Console, start: Start, run: Run) -> bool:
    """Runs one; returns False if it diverged."""
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    with console.run(run.folder.name) as tell:
        code = start(run, tell)
    if code == 1:
        console.end(run.folder.name, f"failed, see {run.log}")
        return False
    if code or not run.done:
        raise UsageError(
            f"{run.folder.name} ended with exit code {code}: see the last lines of {run.log}. "
            "The same command continues."
        )
    results = json.loads((run.folder / "results.json").read_text(encoding="utf-8"))
    figures = (f"{stage} R1 {results[stage]['R1']:.2f}" for stage in ("global", "reranked"))
    console.end(run.folder.name, ", ".join(figures))
    return True
