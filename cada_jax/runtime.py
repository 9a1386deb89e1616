"""What a run asks of its process: memory, a cache of programs, and notice before it ends."""

import ctypes
import importlib.metadata
import importlib.util
import os
import pathlib
import signal
import sys
from collections.abc import Callable
from types import FrameType

import jax
from jax.experimental import multihost_utils


def enable_compilation_cache() -> None:
    """Lets JAX keep compiled programs on disk, so that the second run starts at once.

    The folder is $JAX_COMPILATION_CACHE_DIR, which JAX reads itself, or else ~/.cache/cada_jax.
    Set that variable to the empty string to have no cache.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "cada_jax"
        jax.config.update("jax_compilation_cache_dir", str(folder.expanduser()))


def only_cpu() -> bool:
    """Whether JAX will run on the CPU, told without starting it."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms == "cpu"
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return not plugins and importlib.util.find_spec("libtpu") is None


def keep_freed_memory() -> bool:
    """Lets a process that computes on the CPU keep the memory it frees; others are left alone.

    XLA asks for a step's temporary memory when the step begins. glibc gives blocks of that size
    back to the system when they are freed, which then fills every page with zeros again: 1.2
    million page faults a full-size training step, a tenth of its time. What the process holds at
    most does not change. To be called before JAX starts its threads, which otherwise allocate
    elsewhere.

    Returns:
      Whether anything was set.
    """
    if not sys.platform.startswith("linux") or not only_cpu():
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # numbers of malloc.h
    settings = ((trim_threshold, -1), (mmap_max, 0), (arena_max, 1))
    return all(libc.mallopt(*setting) for setting in settings)


class ProfileWindow:
    """A profile of steps `first` to `first + count - 1`, for TensorBoard or Perfetto.

    Args:
      folder: where to write it.
      first: step of the run; negative for no profile.
      count: how many steps.
    """

    def __init__(self, folder: str | os.PathLike, first: int, count: int):
        self._folder = str(folder)
        self._first = first if jax.process_index() == 0 else -1
        self._end = first + count
        self._running = False

    def before(self, step: int, finish: Callable[[], None]) -> None:
        """Begins or ends the profile if `step`, about to start, is the one for it.

        Args:
          step: from 1.
          finish: waits for the steps already under way.
        """
        if self._first < 0 or step not in (self._first, self._end):
            return
        finish()
        if step == self._end:
            self.close()
        else:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def close(self) -> None:
        """Writes the profile if one is being made."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False


class StopSignal:
    """Turns the first SIGTERM or SIGINT (Ctrl-C) into a request; the second one acts as usual.

    With several processes, JAX's preemption service takes SIGTERM, and the cloud's notice where
    there is one, of any one of them, and names a step at which all stop; Ctrl-C is passed on to it.

    A context manager, to be entered by the main thread. Attributes:
      signum: the signal that came, or None.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self):
        self.signum: int | None = None
        self._several = jax.process_count() > 1
        self._previous = {}

    def __enter__(self) -> "StopSignal":
        signals = (signal.SIGINT,) if self._several else self.SIGNALS
        self._previous = {s: signal.signal(s, self._handle) for s in signals}
        return self

    def __exit__(self, *_) -> None:
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)

    def requested(self, step: int) -> bool:
        """Whether the run should stop now. With several processes, all answer alike at a step."""
        if self._several:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.signum is not None
