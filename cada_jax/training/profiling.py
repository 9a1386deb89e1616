"""A profile of some steps of a run."""

import os
from collections.abc import Callable

import jax


class ProfileWindow:
    """A profile of steps `first` to `first + count - 1`, for TensorBoard or Perfetto.

    Args:
      first: step of the run; negative for no profile.
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
