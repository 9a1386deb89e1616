"""What the routes answer with: the gallery, the device's queue, the audit log."""

import argparse
import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import fastapi
import numpy as np
from prometheus_client import Gauge, Histogram
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from cada_jax.common.errors import UsageError
from cada_jax.gallery.audit import AuditError
from cada_jax.gallery.web.queue import DeviceQueue, Work
from cada_jax.retrieval.association_maps import word_associations
from cada_jax.retrieval.attribute_reading import read_attributes
from cada_jax.retrieval.query import Query
from cada_jax.retriever import Retriever
from cada_jax.text.query_words import Understood

# Words of the descriptions that are searched for ahead: programs are compiled for lengths in steps.
WARM_LENGTHS = (4, 10, 18, 26, 34, 42, 60)
_SEARCH = Histogram("cada_search_seconds", "Seconds of a batch of queries on the device")
_BATCH = Histogram("cada_batch_size", "Queries answered at once", buckets=(1, 2, 4, 8, 16, 32, 64))
_DEPTH = Gauge("cada_queue_depth", "Queries and other work that wait for the device")
_SIZE = Gauge("cada_gallery_size", "Pictures in the gallery")


class Device(NamedTuple):
    """What a model computes for the server, in the device thread only unless it says otherwise.

    search: (queries, gallery) -> hits of each query, best first.
    understood: a description -> which of its words the model knows, may run in any thread.
    associate: (uint8 pixels of a picture, description, layer, head) -> maps of its words, as JSON.
    read: (uint8 pixels) -> the attributes that the decoder reads, as JSON.
    image_size: (height, width) of what the network reads.
    note: what whoever searches by this model has to know, "" if there is nothing.
    """

    search: Callable[[Sequence[Query], Any], Sequence[Sequence[Any]]]
    understood: Callable[[str], Understood]
    associate: Callable[[np.ndarray, str, int | None, int | None], dict[str, Any]]
    read: Callable[[np.ndarray], dict[str, Any]]
    image_size: tuple[int, int]
    note: str = ""


def device_of(retriever: Retriever) -> Device:
    """Search, associations and attribute readings by a model."""

    def associate(*asked) -> dict[str, Any]:
        return word_associations(retriever, *asked).plain()

    def read(pixels: np.ndarray) -> dict[str, Any]:
        (readings,) = read_attributes(retriever, [pixels])
        return {"readings": [reading.plain() for reading in readings]}

    rows, columns = retriever.config.data.image_size
    scoring = retriever.search, retriever.understood, associate, read
    return Device(*scoring, (rows, columns), retriever.note)


class Services:
    """The gallery, the queue in front of the device, and what is written down.

    Args:
      gallery: to serve, a `gallery.Gallery`.
      device: what computes.
      flags: of `cada serve`.
    """

    def __init__(self, gallery: Any, device: Device, flags: argparse.Namespace):
        self.gallery, self.device, self.flags = gallery, device, flags
        self.ready = False
        self.queue = DeviceQueue(
            self._search, flags.max_batch, flags.max_wait_ms / 1000, flags.max_waiting
        )
        _SIZE.set_function(lambda: len(gallery))
        _DEPTH.set_function(lambda: self.queue.depth)

    def _search(self, queries: Sequence[Query]) -> Sequence[Sequence[Any]]:
        _BATCH.observe(len(queries))
        with _SEARCH.time():
            return self.device.search(queries, self.gallery)

    async def computed(self, request: fastapi.Request, work: Work) -> Any:
        """What the device answers; nothing is computed for a client that hangs up before its turn.

        Args:
          request: that is answered.
          work: a query, or a function that is called in the device thread.

        Raises:
          HTTPException: the queue is full, or the client hung up.
        """
        future = self.queue.submit(work)
        answer = asyncio.wrap_future(future)
        while not (await asyncio.wait({answer}, timeout=1))[0]:
            if await request.is_disconnected():
                future.cancel()
                raise HTTPException(499, "the client hung up")
        return answer.result()

    def audit(self, request: fastapi.Request, event: str, **what: Any) -> None:
        """Writes down who asked what, before it is answered.

        Raises:
          HTTPException: 503, it could not be written, so nothing is answered.
        """
        if self.flags.audit is None:
            return
        client = request.client.host if request.client else ""
        try:
            self.flags.audit.write(event, {"client": client, "token": request.state.holder}, **what)
        except AuditError as error:
            text = f"the audit log cannot be written ({error}), so nothing is answered"
            raise HTTPException(503, text, {"Retry-After": "30"}) from None

    @property
    def state(self) -> str:
        """What /healthz tells: "ready", "starting" or "no audit log"."""
        if self.flags.audit is not None and self.flags.audit.failed:
            return "no audit log"
        return "ready" if self.ready else "starting"

    @contextlib.asynccontextmanager
    async def running(self, app: Any) -> AsyncIterator[None]:
        """While the server runs; at first programs are compiled."""
        warming = asyncio.create_task(self._warm_up())
        yield
        warming.cancel()
        await run_in_threadpool(self.queue.close, 2)

    async def _warm_up(self) -> None:
        wanted = len(self.gallery) and not self.flags.no_warm_up
        try:
            for work in self._first_work() if wanted else ():
                # One by one, so that a query that came early waits for one of them only.
                with contextlib.suppress(UsageError):  # a model that reads no attributes
                    await asyncio.wrap_future(self.queue.submit(work))
        except Exception:
            text = "compiling ahead failed: the first query will be slow"
            logging.getLogger(__name__).exception(text)
        self.ready = True

    def _first_work(self) -> Iterator[Callable[[], Any]]:
        """Work that needs every program: few and many queries at once, of few and many words."""
        image = np.zeros((*self.device.image_size, 3), np.uint8)
        most = self.flags.max_batch
        batches = [[Query(like=image)], [Query("a coat", like=image)]]
        for size in sorted({min(4**i, most) for i in range(most.bit_length())}):
            for words in WARM_LENGTHS:
                texts = [" ".join(["coat"] * (words - 1) + [str(i)]) for i in range(size)]
                batches.append([Query(text) for text in texts])
        for batch in batches:
            yield lambda batch=batch: self.device.search(batch, self.gallery)
        yield lambda: self.device.associate(image, "a coat", None, None)
        yield lambda: self.device.read(image)


@contextlib.contextmanager
def refusing(status: int) -> Iterator[None]:
    """Turns a UsageError of the `with` block into a refusal with this status."""
    try:
        yield
    except UsageError as error:
        raise HTTPException(status, str(error)) from None


async def _of(request: fastapi.Request) -> Services:
    return request.app.state.services


# A parameter of a route: the services of its server.
Served = Annotated[Services, fastapi.Depends(_of)]
