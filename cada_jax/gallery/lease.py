"""One writer at a time in a gallery on a server, by a row that the writer renews.

A database server has no locks. Everybody writes a row of his own, then reads all rows: of two who
come at once, the later reader sees both, so never do both go on. Both withdraw if both see both,
and try again after times drawn by chance. A writer that is killed leaves its row behind; it runs
out, or is taken over at once where the process is known to be dead.
"""

import json
import os
import random
import secrets
import socket
import threading
import time

from cada_jax.common.errors import UsageError
from cada_jax.gallery.vectors import Vectors

KEY = "writer/"
TRIES = 8  # to get past another who only tries, too
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
        self._own = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}
        self._key = KEY + secrets.token_hex(16)
        self._claim()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def _claim(self) -> None:
        for attempt in range(TRIES):
            self._write(holds=False)
            others = self._others()
            if not others:
                self._write(holds=True)
                return
            self._vectors.drop_state([self._key])
            other = max(others, key=lambda holder: holder["holds"])
            if other["holds"] or attempt == TRIES - 1:
                raise UsageError(
                    f"{self._vectors.place.name} is in use by process {other['pid']} on "
                    f"{other['host']}, which writes to it. Wait until it ends; if it was killed, "
                    f"its claim ends in {other['until'] - time.time():.0f} s."
                )
            time.sleep(random.uniform(0, 0.1 * 2**attempt))

    def _others(self) -> list[dict]:
        """Who else writes or tries to; rows of those who cannot are removed."""
        rows = self._vectors.state(KEY)
        rows.pop(self._key, None)
        holders = {key: json.loads(text) for key, text in rows.items()}
        dead = [k for k, h in holders.items() if h["until"] <= time.time() or not _alive(h)]
        self._vectors.drop_state(dead)
        return [holder for key, holder in holders.items() if key not in dead]

    def _write(self, holds: bool) -> None:
        holder = self._own | {"until": time.time() + self._seconds, "holds": holds}
        self._vectors.set_state({self._key: json.dumps(holder)})

    def _renew(self) -> None:
        while not self._stop.wait(min(RENEWED, self._seconds / 3)):
            try:
                self._write(holds=True)
            except UsageError:  # a short outage; the writing itself reports a long one
                pass

    def release(self) -> None:
        """Lets others write."""
        self._stop.set()
        self._thread.join()
        self._vectors.drop_state([self._key])
