"""Connects to Milvus: milvus-lite in this process for a folder, or a server."""

import collections
import contextlib
import logging
import os
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

from cada_jax.gallery.extra import require
from cada_jax.gallery.place import Place

_USERS: collections.Counter[str] = collections.Counter()  # of a local database in this process
_LOCK = threading.Lock()


def first_line(error: Exception) -> str:
    """What an exception of pymilvus says, without the traceback that it holds."""
    text = getattr(error, "message", "") or str(error) or type(error).__name__
    return text.strip().splitlines()[0]


@contextlib.contextmanager
def connected(place: Place, timeout: float) -> Iterator[Any]:
    """Yields pymilvus's client; creates the database of a local place.

    The client's own `close` leaves milvus-lite running, which keeps other processes out. It is
    stopped here, with its last user in this process.

    Args:
      place: of the gallery. A server's user and password are read from its URI, a token from
        MILVUS_TOKEN.
      timeout: of a server, in seconds.
    """
    pymilvus = require("pymilvus")
    # They print what they raise, with a traceback. milvus-lite's server in this process does not
    # know a call that pymilvus then does without.
    for name in ("pymilvus", "milvus_lite", "grpc._server"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        if place.folder:
            stack.enter_context(_running(place.uri))
            client = pymilvus.MilvusClient(place.uri)
        else:
            parts = urllib.parse.urlsplit(place.uri)
            login = {"token": os.environ.get("MILVUS_TOKEN", "")}
            if parts.username:
                login = {"user": parts.username, "password": parts.password or ""}
            client = pymilvus.MilvusClient(place.shown_uri, timeout=timeout, **login)
        try:
            yield client
        finally:
            with contextlib.suppress(Exception):
                client.close()


@contextlib.contextmanager
def _running(path: str) -> Iterator[None]:
    """Stops milvus-lite for a path when nobody in this process needs it any more."""
    servers = require("milvus_lite.server_manager").server_manager_instance
    with _LOCK:
        _USERS[path] += 1
    try:
        yield
    finally:
        with _LOCK:
            _USERS[path] -= 1
            if not _USERS[path]:
                del _USERS[path]
                servers.release_server(path)
