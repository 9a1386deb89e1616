"""The outermost layer: safe headers on every answer, counters, and a line of the access log."""

import contextlib
import datetime
import json
import logging
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from cada_jax.gallery.server.gate import HOLDER
from cada_jax.gallery.server.http import (
    Application,
    ClientGoneError,
    Message,
    Receive,
    Scope,
    Send,
    client_address,
    route_path,
    send_problem,
)
from cada_jax.gallery.server.metrics import Metrics
from cada_jax.gallery.server.problems import Problem

CLIENT_GONE = 499  # of no standard; the number that nginx logs
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
SAFE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_RAW = [(name.encode(), value.encode()) for name, value in SAFE_HEADERS.items()]


def print_entry(entry: dict[str, Any]) -> None:
    """Writes a line of the access log to stderr: one JSON object."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        print(json.dumps(entry), file=sys.stderr, flush=True)


class Watch:
    """Counts and logs every request, and answers what the layers inside refuse by raising.

    The log holds no query and no token: the path stands in it without what follows the `?`.

    Args:
      app: what is behind.
      metrics: to count in.
      log: takes an entry of the access log; None writes none.
      trust_proxy: the client's address is what the proxy says.
    """

    def __init__(
        self,
        app: Application,
        metrics: Metrics,
        log: Callable[[dict[str, Any]], None] | None,
        trust_proxy: bool = False,
    ):
        self._app = app
        self._metrics = metrics
        self._log = log
        self._trust_proxy = trust_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers every request, whatever is raised inside."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, length = time.monotonic(), 0, 0

        async def watched_send(message: Message) -> None:
            nonlocal status, length
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *_RAW]}
            elif message["type"] == "http.response.body":
                length += len(message.get("body", b""))
            await send(message)

        self._metrics.active(1)
        try:
            await self._app(scope, receive, watched_send)
        except Problem as problem:
            await send_problem(watched_send, problem)
        except ClientGoneError:
            status = CLIENT_GONE
        except Exception:
            logging.getLogger(__name__).exception("a request failed by a fault of this program")
            if not status:
                status = HTTPStatus.INTERNAL_SERVER_ERROR
                await send_problem(watched_send, Problem(status, "the server failed; see its log"))
        finally:
            self._metrics.active(-1)
            self._write(scope, int(status), length, time.monotonic() - start)

    def _write(self, scope: Scope, status: int, length: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.request(route, method, status, seconds)
        if self._log is None:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self._log(
            {
                "time": now,
                "client": client_address(scope, self._trust_proxy),
                "token": scope.get(HOLDER, ""),
                "method": method,
                "path": route_path(scope)[:200],
                "status": status,
                "bytes": length,
                "ms": round(seconds * 1000, 1),
            }
        )
