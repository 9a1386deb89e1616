"""How much a client may send, and how long it may take: no client holds the server for long."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from cada_jax.gallery.server.http import (
    Application,
    Message,
    Receive,
    Scope,
    Send,
    headers_of,
)
from cada_jax.gallery.server.limits import MEGA, Limits
from cada_jax.gallery.server.problems import Problem, bad_field


class Patience:
    """Bounds length and time of a request's body.

    Args:
      app: what is behind.
      limits: `upload_bytes`, `body_seconds`.
    """

    def __init__(self, app: Application, limits: Limits):
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands on to the application; its `receive` raises Problem: 413 or 408."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._check_length(headers_of(scope).get("content-length"))
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.body_seconds
        received, complete = 0, False

        async def bounded_receive() -> Message:
            nonlocal received, complete
            try:
                async with asyncio.timeout_at(None if complete else until):
                    message = await receive()
            except TimeoutError:
                raise Problem(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"the body did not come within {self._limits.body_seconds:g} seconds",
                    {"Connection": "close"},
                ) from None
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if received > self._limits.upload_bytes:
                    raise self._too_long()
            return message

        await self._app(scope, bounded_receive, send)

    def _check_length(self, declared: str | None) -> None:
        if declared is None:
            return
        if not (declared.isascii() and declared.isdigit()):
            raise bad_field("Content-Length", f"is {declared[:20]!r}, expected a number of bytes")
        if len(declared) > 15 or int(declared) > self._limits.upload_bytes:
            raise self._too_long()

    def _too_long(self) -> Problem:
        return Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body has more than {self._limits.upload_bytes / MEGA:g} MB, expected at most "
            "that: send a smaller picture",
        )


def patient_protocol(limits: Limits) -> type:
    """Uvicorn's HTTP/1.1 protocol that hangs up on a client that neither sends nor reads.

    uvicorn has a timeout between requests only: a client that sends half a line, or that takes
    nothing of an answer, would stay. The first clock also bounds what is still sent of a body after
    its request was refused.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class PatientProtocol(H11Protocol):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            self._head = _Clock(self.loop, limits.header_seconds, self._abort)
            self._taken = _Clock(self.loop, limits.send_seconds, self._check_taken)
            self._left = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._head.start()
            if len(self.connections) > limits.max_connections:
                self._abort()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._head.stop()
            else:
                self._head.start()

        def pause_writing(self) -> None:  # the system takes no more of an answer
            super().pause_writing()
            self._left = self.transport.get_write_buffer_size()
            self._taken.start()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._taken.stop()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head.stop()
            self._taken.stop()
            super().connection_lost(exc)

        def _check_taken(self) -> None:
            before, self._left = self._left, self.transport.get_write_buffer_size()
            if self._left < before:
                self._taken.start()
            else:
                self._abort()

        def _abort(self) -> None:
            self.transport.abort()

    return PatientProtocol


class _Clock:
    """Calls a function once, so many seconds after its start, unless it is stopped before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, ring: Callable[[], None]):
        self._loop, self._seconds, self._ring = loop, seconds, ring
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Starts it; one that runs already is not put back."""
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, self._over)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _over(self) -> None:
        self._handle = None
        self._ring()
