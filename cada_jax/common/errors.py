"""What the program says to its user, as opposed to what it says about its own mistakes.

`cada_jax.main` prints the message of these alone, without a traceback; everything else that is
raised is a bug and keeps its traceback. The first three also are built-in exceptions, so that a
library user may catch `ValueError` or `FileNotFoundError` without knowing this module.
"""

import signal


class UsageError(ValueError):
    """A file, a config key or a flag is not what it has to be.

    The message names the thing, what was expected, what came, and what to do next.
    """


class MissingFileError(UsageError, FileNotFoundError):
    """A file or folder that the run needs is not there."""

    def __str__(self) -> str:
        # OSError formats two arguments as "[Errno ...]"; the message is the first one here.
        return str(self.args[0]) if self.args else ""


class NoRoomError(UsageError):
    """A checkpoint could not be written for want of room; what was saved before is kept."""


class DivergedError(ArithmeticError):
    """The loss or its gradient is no longer a finite number."""


class LostProcessError(RuntimeError):
    """Another process of the same run is gone."""


class StoppedError(Exception):
    """A signal asked the run to end, and its state is saved.

    Attributes:
      signum: the signal.
    """

    def __init__(self, signum: int, step: int):
        super().__init__(
            f"Stopped by {signal.Signals(signum).name} after step {step}, which is saved. "
            "The same command continues."
        )
        self.signum = signum
