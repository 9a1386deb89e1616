"""The connection to Milvus: milvus-lite in this process, or a server."""

import logging
import os
import urllib.parse
from typing import Any

from cada_jax.gallery.extra import require
from cada_jax.gallery.place import Place

TIMEOUT = 60.0  # seconds; a dead server is noticed


def first_line(error: Exception) -> str:
    """What an exception of pymilvus says, without the traceback that it holds."""
    text = getattr(error, "message", "") or str(error) or type(error).__name__
    return text.strip().splitlines()[0]


def connect(place: Place) -> Any:
    """Connects, and creates the database of a local place.

    A server's user and password are read from its URI, a token from MILVUS_TOKEN.
    """
    pymilvus = require("pymilvus")
    # They print what they raise, with a traceback. milvus-lite's server in this process does not
    # know a call that pymilvus then does without.
    for name in ("pymilvus", "milvus_lite", "grpc._server"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if place.folder:
        require("milvus_lite")
        return pymilvus.MilvusClient(place.uri)
    parts = urllib.parse.urlsplit(place.uri)
    login = {"token": os.environ.get("MILVUS_TOKEN", "")}
    if parts.username:
        login = {"user": parts.username, "password": parts.password or ""}
    return pymilvus.MilvusClient(place.shown_uri, timeout=TIMEOUT, **login)
