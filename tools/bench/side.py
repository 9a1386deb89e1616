"""One framework in a process of its own, so that each has its own threads and its own memory.

The two sides take turns: while one works the other waits for its next command.
"""

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import pathlib
import resource
import time
import traceback
from typing import Any

from cada_jax.common.errors import UsageError


class Side:
    """A bench object in a process of its own; methods are called by name.

    Args:
      target: "module:Class" of what the process makes.
      environment: variables set before anything is imported there.
      kwargs: for the class; must pickle.
    """

    def __init__(self, target: str, environment: dict[str, str], **kwargs):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, target, environment, kwargs), daemon=True
        )
        self._process.start()
        theirs.close()
        self._answer()

    def call(self, method: str, *args) -> Any:
        """Calls a method there and returns what it returns.

        Raises:
          UsageError: it refused, ran out of memory, or its process is gone.
          RuntimeError: it failed otherwise, which is a bug; the message holds its traceback.
        """
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self._pipe.send((method, args))
        return self._answer()

    def _answer(self) -> Any:
        try:
            outcome, value = self._pipe.recv()
        except (EOFError, ConnectionResetError) as err:
            self._process.join()
            raise UsageError(
                f"a benchmark process ended by itself (exit status {self._process.exitcode}; "
                "-9 is what running out of memory looks like): use a smaller --batch"
            ) from err
        if outcome == "refused":
            raise UsageError(value)
        if outcome == "failed":
            raise RuntimeError(f"in a benchmark process:\n{value}")
        return value

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()


def _serve(pipe, target: str, environment: dict[str, str], kwargs: dict) -> None:
    os.environ.update(environment)
    try:
        module, _, name = target.partition(":")
        served = getattr(importlib.import_module(module), name)(**kwargs)
        pipe.send(("done", None))
        while True:
            method, args = pipe.recv()
            pipe.send(("done", getattr(served, method)(*args)))
    except (EOFError, KeyboardInterrupt):
        return
    except UsageError as e:
        pipe.send(("refused", str(e)))
    except Exception as e:  # whatever it is, the other end must hear of it
        if _out_of_memory(e):
            pipe.send(("refused", "out of memory: use a smaller --batch, or fewer rows"))
        else:
            pipe.send(("failed", traceback.format_exc()))


def _out_of_memory(error: Exception) -> bool:
    """Whether Python, NumPy, XLA or PyTorch says so; the last two have no common type for it."""
    told = ("RESOURCE_EXHAUSTED", "out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(part in str(error) for part in told)


def stopwatch(clock: str):
    """The clock to time with: "wall", or "cpu" of this process (for a machine that is busy)."""
    return time.perf_counter if clock == "wall" else time.process_time


def forget_peak_memory() -> None:
    """Lets the peak of this process's memory start anew, where the system can (Linux)."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed is not to be counted
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_memory() -> int:
    """Bytes of main memory that this process held at most since `forget_peak_memory`."""
    try:
        for line in pathlib.Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
