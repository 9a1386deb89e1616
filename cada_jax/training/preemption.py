"""What a run asks of its process: a cache of programs, a profile, and notice before it ends."""

import os
import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """Turns the first SIGTERM or SIGINT (Ctrl-C) into a request; the second one acts as usual.

    With several processes, JAX's preemption service takes SIGTERM, and the cloud's notice where
    there is one, of any one of them, and names a step at which all stop; Ctrl-C is passed on to it.

    A context manager. Within a thread other than the main one it takes no signal. Attributes:
      signum: the signal that came, or None.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self):
        self.signum: int | None = None
        self._several = jax.process_count() > 1
        self._previous = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # Python allows no other one
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
