"""What the device thread computes: results of queries, associations, attribute readings."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from cada_jax.gallery.server.answers import AssociationAnswer, AttributesAnswer
from cada_jax.retrieval.query import Query, Where
from cada_jax.retrieval.searchable import Near, Picture, Searchable

COUNTED_EVERY = 10.0  # seconds; others may write to a gallery on a database server
Observe = Callable[[str, float], None]


class Found(Protocol):
    """A result of a query, as `cada_jax.Hit` has it."""

    @property
    def picture(self) -> Picture:
        """Its record."""
        ...

    @property
    def similarity(self) -> float:
        """Cosine in [-1,1]."""
        ...

    @property
    def match_logit(self) -> float | None:
        """Of the decoder, None where it was not asked."""
        ...

    @property
    def score(self) -> float:
        """What results are cut off by."""
        ...


class ServedGallery(Searchable, Protocol):
    """A gallery that can be served: it also tells what it knows of its pictures."""

    def picture(self, id: str) -> Picture:
        """The record of one picture; a UsageError names an id that is not there."""
        ...

    def summary(self) -> dict:
        """What the gallery holds."""
        ...


class Device(NamedTuple):
    """What a model computes for the server; every function runs in the device thread only.

    search: (queries, gallery) -> results of each query, best first.
    associate: (uint8 pixels of a picture, description, layer, head) -> its association.
    read: (uint8 pixels) -> attributes.
    """

    search: Callable[[Sequence[Query], Searchable], Sequence[Sequence[Found]]]
    associate: Callable[[np.ndarray, str, int | None, int | None], AssociationAnswer]
    read: Callable[[np.ndarray], AttributesAnswer]


class WatchedGallery:
    """A gallery that one thread at a time asks, and whose answers are timed.

    The device thread searches it and the request threads read records: a database client is not
    always safe under both. Its size is the one last counted, so that asking for it never waits.

    Args:
      gallery: to ask.
      observe: called as observe("nearest", seconds), and of "embeddings", "tokens" and "record".
    """

    def __init__(self, gallery: ServedGallery, observe: Observe | None = None):
        self._gallery = gallery
        self._observe = observe or (lambda name, value: None)
        self._lock = threading.Lock()
        self._size, self._counted = len(gallery), time.monotonic()

    @property
    def model(self) -> str:
        """As of the gallery."""
        return self._gallery.model

    def __len__(self) -> int:
        return self._size

    def nearest(self, embeddings: np.ndarray, k: int, where: Where) -> list[list[Near]]:
        """As of the gallery."""
        with self._asked("nearest"):
            if time.monotonic() - self._counted > COUNTED_EVERY:
                self._size, self._counted = len(self._gallery), time.monotonic()
            return self._gallery.nearest(embeddings, k, where)

    def embeddings_of(self, ids: Sequence[str]) -> np.ndarray:
        """As of the gallery."""
        with self._asked("embeddings"):
            return self._gallery.embeddings_of(ids)

    def tokens_of(self, ids: Sequence[str]) -> np.ndarray:
        """As of the gallery."""
        with self._asked("tokens"):
            return self._gallery.tokens_of(ids)

    def picture(self, id: str) -> Picture:
        """As of the gallery."""
        with self._asked("record"):
            return self._gallery.picture(id)

    def summary(self) -> dict:
        """As of the gallery."""
        with self._lock:
            return self._gallery.summary()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gallery, name)

    @contextlib.contextmanager
    def _asked(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        with self._lock:
            yield
        self._observe(stage, time.monotonic() - start)


def warm_up(device: Device, gallery: Searchable, max_batch: int) -> None:
    """Compiles what the first queries need: batches of 1, 2, 4 ... queries, short and long.

    Args:
      device: whose programs are compiled.
      gallery: any picture of it will do; an empty one needs no program.
      max_batch: queries that are answered at once.
    """
    if not len(gallery):
        return
    words = "a person in a coat with a bag and black shoes".split()
    sizes = {min(2**i, max_batch) for i in range(max_batch.bit_length() + 1)}
    for size in sorted(sizes):
        for repeats in (1, 3):
            text = " ".join(words * repeats)
            device.search([Query(texts=(text,))] * size, gallery)
