"""What a run asks of its process: a cache of programs, a profile, and notice before it ends."""

import os
import pathlib
import signal
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
