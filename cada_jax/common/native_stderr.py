"""The notices of C++ libraries, which no setting of theirs keeps off the console."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def native_stderr_muted() -> Iterator[None]:
    """Drops what C++ code prints; what Python raises is still printed, later.

    TensorFlow prints notices on oneDNN and on CUDA it does not find, which look like errors, and
    since 2.20 TF_CPP_MIN_LOG_LEVEL does not keep it from that.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
