"""How much a client may send, and how long it may take: no client holds the server for long."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from cada_jax.gallery.server.http import (
    Application,
    ClientGoneError,
    Message,
    Receive,
    Scope,
    Send,
    headers_of,
)
from cada_jax.gallery.server.limits import MEGA, Limits
from cada_jax.gallery.server.problems import Problem, bad_field

ABORT = "cada_abort"  # key of the scope's state: a function that drops the connection


class Patience:
    """Bounds length and time of a request's body, and the time that a client takes to read.

    Args:
      app: what is behind.
      limits: `upload_bytes`, `body_seconds`, `send_seconds`.
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

        async def bounded_send(message: Message) -> None:
            try:
                async with asyncio.timeout(self._limits.send_seconds):
                    await send(message)
            except TimeoutError:
                scope.get("state", {}).get(ABORT, lambda: None)()
                raise ClientGoneError("it took too long to read the answer") from None

        await self._app(scope, bounded_receive, bounded_send)

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
    """Uvicorn's HTTP/1.1 protocol that hangs up on a client whose request's head does not come.

    uvicorn has a timeout between requests only: a client that sends half a line would stay. The
    same clock bounds what is still sent of a body after its request was refused.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class PatientProtocol(H11Protocol):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            self.app_state = {**self.app_state, ABORT: self._abort}
            self._clock: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._start_clock()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_clock()
            else:
                self._start_clock()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_clock()
            super().connection_lost(exc)

        def _start_clock(self) -> None:
            if self._clock is None:
                wait: Callable = self.loop.call_later
                self._clock = wait(limits.header_seconds, self._abort)

        def _stop_clock(self) -> None:
            if self._clock is not None:
                self._clock.cancel()
                self._clock = None

        def _abort(self) -> None:
            self._clock = None
            if not self.transport.is_closing():
                self.transport.abort()

    return PatientProtocol
