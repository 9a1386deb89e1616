"""Starts the server, and stops it without losing a request."""

import asyncio
import contextlib
import errno
import functools
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from cada_jax.common.errors import UsageError
from cada_jax.gallery.server.app import build_app
from cada_jax.gallery.server.engine import Device, warm_ups
from cada_jax.gallery.server.patience import patient_protocol
from cada_jax.gallery.server.services import Services

BACKLOG = 256
LAST_SECONDS = 2  # for what a server that stops could not finish in its time


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 takes a free one.

    Raises:
      UsageError: the port is taken or may not be used, or the host is no address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no name"
        raise UsageError(f"--host={host}: expected an address of this machine ({reason})") from None
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere this would share a port that is taken
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(_why_not(host, port, error)) from None
    return listener


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken by another program: choose another by --port"
    if error.errno == errno.EACCES:
        return f"port {port} may not be used by this user: choose one from 1024 on by --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host={host} is no address of this machine"
    return f"--host={host} --port={port}: {error.strerror or error}"


def url_of(listener: socket.socket, root_path: str = "") -> str:
    """The address of the page."""
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}{root_path}/"


def serve(
    services: Services, listener: socket.socket, started: Callable[[Any], None] | None = None
) -> int:
    """Serves until SIGTERM or Ctrl-C, then finishes the requests that are being answered.

    Meanwhile new requests are refused with 503. A second signal ends at once.

    Args:
      services: what is served; closed at the end.
      listener: from `listen`.
      started: called with the server once it answers; its `stop()` ends it from any thread.

    Returns:
      The exit status: 0 after SIGTERM, 130 after Ctrl-C.
    """
    server = _server(services, started)
    warmer = threading.Thread(target=_warm, args=(services,), daemon=True)
    warmer.start()
    try:
        asyncio.run(server.serve(sockets=[listener]))
    finally:
        listener.close()
        services.close(LAST_SECONDS)
    return 128 + signal.SIGINT if server.signum == signal.SIGINT else 0


def _warm(services: Services) -> None:
    """Compiles in the device thread, then says that the server is ready."""
    image = np.zeros((*services.options.image_size, 3), np.uint8)
    device = services.device
    work: list[Callable[[], Any]] = [
        functools.partial(services.search, q) for q in warm_ups(services.limits.max_batch, image)
    ]
    work.insert(1, lambda: device.associate(image, "a coat", None, None))
    work.insert(2, lambda: _read(device, image))
    try:
        for each in work if services.options.compile_ahead and len(services.gallery) else ():
            if services.state.stopping:
                break
            # One by one, so that a query that came early waits for one of them only.
            services.queue.submit(each).result()
    except Exception:
        if not services.state.stopping:
            logging.getLogger(__name__).exception(
                "compiling ahead failed: the first query will be slow"
            )
    services.state.ready = True


def _read(device: Device, image: np.ndarray) -> None:
    with contextlib.suppress(UsageError):  # a model that was not trained to read attributes
        device.read(image)


def _server(services: Services, started: Callable[[Any], None] | None) -> Any:
    import uvicorn

    limits = services.limits
    config = uvicorn.Config(
        build_app(services),
        http=patient_protocol(limits),
        ws="none",
        lifespan="off",
        log_config=None,  # uvicorn's closes the handlers that other libraries have set up
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(max(1, limits.header_seconds)),
        timeout_graceful_shutdown=LAST_SECONDS,  # after those that `_finished` waited
        backlog=BACKLOG,
    )

    class Server(uvicorn.Server):
        """uvicorn's, that answers 503 while it finishes, and does not die of the signal after."""

        signum = 0

        def handle_exit(self, sig: int, frame: Any) -> None:
            self.signum = self.signum or sig
            self.stop(now=services.state.stopping)

        def stop(self, now: bool = False) -> None:
            """Ends the server when its requests are answered, or at once."""
            services.state.stopping = True
            self.force_exit = self.force_exit or now

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if started is not None:
                started(self)

        async def on_tick(self, counter: int) -> bool:
            if services.state.stopping and (self.force_exit or await self._finished()):
                self.should_exit = True
            return await super().on_tick(counter)

        async def _finished(self) -> bool:
            """Waits, within limits, until nothing is being answered, and lets clients see 503."""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.stop_seconds):
                    while services.state.active and not self.force_exit:
                        await asyncio.sleep(0.05)
            return True

    return Server(config)
