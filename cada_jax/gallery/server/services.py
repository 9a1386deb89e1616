"""What the routes answer with: one object for each running server."""

import asyncio
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.gallery.audit import AuditError, AuditLog
from cada_jax.gallery.server.device_queue import DeviceQueue, QueueOptions
from cada_jax.gallery.server.engine import Device, Found, ServedGallery, WatchedGallery
from cada_jax.gallery.server.gate import HOLDER
from cada_jax.gallery.server.http import ClientGoneError, Receive, Scope, State, client_address
from cada_jax.gallery.server.limits import Limits
from cada_jax.gallery.server.metrics import Metrics
from cada_jax.gallery.server.pictures import Thumbnails
from cada_jax.gallery.server.problems import Problem, unavailable
from cada_jax.gallery.server.tokens import Tokens
from cada_jax.retrieval.query import Query
from cada_jax.retrieval.searchable import Picture


@dataclasses.dataclass(frozen=True)
class Options:
    """How a server is set up.

    Attributes:
      root_path: what comes before every path behind a proxy, "" or "/people".
      tokens: one of them opens the server; none, and nobody needs one.
      limits: of requests.
      audit: where queries are written down, None for nowhere.
      trust_proxy: believe the X-Forwarded headers of the proxy in front.
      hosts: accepted in `Host` besides this machine's names, where there is no token.
      access_log: takes an entry for each request, None for none.
      image_size: (height, width) of what the network reads.
      compile_ahead: compile at the start what queries need, so that no user waits for it.
    """

    root_path: str = ""
    tokens: Tokens = dataclasses.field(default_factory=lambda: Tokens({}))
    limits: Limits = dataclasses.field(default_factory=Limits)
    audit: AuditLog | None = None
    trust_proxy: bool = False
    hosts: tuple[str, ...] = ()
    access_log: Callable[[dict[str, Any]], None] | None = None
    image_size: tuple[int, int] = (224, 224)
    compile_ahead: bool = True


class Services:
    """The gallery, the queue in front of the device, and what is counted and written down.

    Args:
      gallery: to serve.
      device: what computes.
      options: of the server.
    """

    def __init__(self, gallery: ServedGallery, device: Device, options: Options):
        limits = options.limits
        self.options = options
        self.limits = limits
        self.state = State()
        self.metrics = Metrics(lambda: len(self.gallery), lambda: self.queue.depth)
        self.gallery = WatchedGallery(gallery, self.metrics.observe)
        self.device = device
        self.queue = DeviceQueue(
            self._timed_search,
            QueueOptions(limits.max_batch, limits.max_wait_ms / 1000, limits.max_concurrent),
            self.metrics.observe,
        )
        self.thumbnails = Thumbnails(gallery)
        self.uploads = asyncio.Semaphore(limits.max_uploads)

    def search(self, queries: Sequence[Query]) -> Sequence[Sequence[Found]]:
        """Results of a batch; for the device thread only."""
        return self.device.search(queries, self.gallery)

    def _timed_search(self, queries: Sequence[Query]) -> Sequence[Sequence[Found]]:
        with self.metrics.stage("search"):
            return self.search(queries)

    async def outcome(self, work: Query | Callable[[], Any], receive: Receive, refused: int) -> Any:
        """What the device answers; nothing is computed for a client that hangs up before its turn.

        Args:
          work: a query, or a function that is called in the device thread.
          receive: of the request.
          refused: the status of what the model or the gallery refuses with a UsageError.

        Raises:
          Problem: the queue is full, the work is refused, or it took too long.
          ClientGoneError: the client hung up.
        """
        future: Future = self.queue.submit(work)
        answer = asyncio.wrap_future(future)
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await asyncio.wait(
                {answer, gone},
                timeout=self.limits.answer_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if answer.done():
                return answer.result()
            if gone.done():
                raise ClientGoneError("the client hung up")
            raise unavailable(f"no answer within {self.limits.answer_seconds:g} seconds")
        except MissingFileError as error:
            raise Problem(HTTPStatus.GONE, str(error)) from None
        except UsageError as error:
            raise Problem(refused, str(error)) from None
        finally:
            gone.cancel()
            future.cancel()  # at once: `answer` would hand it on in the loop's next turn
            answer.cancel()

    def picture(self, id: str) -> Picture:
        """The record of a picture.

        Raises:
          Problem: 404, there is none of that id.
        """
        try:
            if len(id) == 32 and set(id) <= set("0123456789abcdef"):
                return self.gallery.picture(id)
        except UsageError:
            pass
        raise Problem(HTTPStatus.NOT_FOUND, f"no picture has the id {id[:60]!r} in this gallery")

    def audit(self, scope: Scope, event: str, **what: Any) -> None:
        """Writes down who asked what.

        Raises:
          Problem: 503, it could not be written, so nothing is answered.
        """
        if self.options.audit is None:
            return
        who: Mapping[str, str] = {
            "client": client_address(scope, self.options.trust_proxy),
            "token": scope.get(HOLDER, ""),
        }
        try:
            self.options.audit.write(event, who, **what)
        except AuditError as error:
            raise unavailable(
                f"the audit log cannot be written ({error}), so nothing is answered", 30
            ) from None

    def health(self) -> str:
        """The state of the server: "ready", or what keeps it from being that."""
        if self.state.stopping:
            return "stopping"
        if not self.state.ready:
            return "starting"
        audit = self.options.audit
        return "no audit log" if audit is not None and audit.failed else "ready"

    def close(self, seconds: float) -> None:
        """Ends the device thread, which has so long for what waits, and removes temporary files."""
        self.queue.close(seconds)
        self.thumbnails.close()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def static_folder() -> str:
    """Where the page's files lie."""
    return os.path.join(os.path.dirname(__file__), "static")
