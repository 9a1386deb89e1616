"""One writer at a time in a gallery on a server, by a row that the writer renews.

A database server has no locks. A writer that is killed leaves its row behind; it runs out, or is
taken over at once where the process is known to be dead.
"""

import json
import os
import secrets
import socket
import threading
import time

from cada_jax.common.errors import UsageError
from cada_jax.gallery.vectors import Vectors

KEY = "writer"
SECONDS = 90.0  # how long a row counts after it was last renewed
RENEWED = 20.0


def _alive(holder: dict) -> bool:
    """Whether a holder may still be at work; one on another machine may always."""
    if holder["host"] != socket.gethostname():
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class Lease:
    """Held from construction to `release`.

    Args:
      vectors: of the gallery.
      seconds: how long others keep away after the last renewal.

    Raises:
      UsageError: another process writes; the message names it.
    """

    def __init__(self, vectors: Vectors, seconds: float = SECONDS):
        self._vectors, self._seconds = vectors, seconds
        self._own = {"pid": os.getpid(), "host": socket.gethostname(), "nonce": secrets.token_hex()}
        self._refuse_another()
        self._write()
        self._refuse_another()  # two who came at once: the later writer keeps it
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def _refuse_another(self) -> None:
        text = self._vectors.state().get(KEY)
        if not text:
            return
        holder = json.loads(text)
        if holder["nonce"] == self._own["nonce"] or not _alive(holder):
            return
        if (left := holder["until"] - time.time()) > 0:
            raise UsageError(
                f"{self._vectors.place.name} is in use by process {holder['pid']} on "
                f"{holder['host']}, which writes to it. Wait until it ends; if it was killed, "
                f"its claim ends in {left:.0f} s."
            )

    def _write(self) -> None:
        holder = self._own | {"until": time.time() + self._seconds}
        self._vectors.set_state({KEY: json.dumps(holder)})

    def _renew(self) -> None:
        while not self._stop.wait(min(RENEWED, self._seconds / 3)):
            try:
                self._write()
            except UsageError:  # a short outage; the writing itself reports a long one
                pass

    def release(self) -> None:
        """Lets others write."""
        self._stop.set()
        self._thread.join()
        self._vectors.drop_state([KEY])
