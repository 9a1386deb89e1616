"""What the device thread computes: results of queries, associations, attribute readings."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from cada_jax.retrieval.query import Query, Where
from cada_jax.retrieval.searchable import Near, Picture, Searchable

COUNTED_EVERY = 10.0  # seconds; others may write to a gallery on a database server
# Words of the descriptions that are searched for ahead: programs are compiled for lengths in steps.
WARM_LENGTHS = (4, 10, 18, 26, 34, 42, 60)
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
    associate: (uint8 pixels of a picture, description, layer, head) -> what JSON tells of its
      association, see `answers.AssociationAnswer`.
    read: (uint8 pixels) -> attributes, see `answers.AttributesAnswer`.
    """

    search: Callable[[Sequence[Query], Searchable], Sequence[Sequence[Found]]]
    associate: Callable[[np.ndarray, str, int | None, int | None], dict[str, Any]]
    read: Callable[[np.ndarray], dict[str, Any]]


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

    def tokens_of(self, pictures: Sequence[Picture]) -> np.ndarray:
        """As of the gallery."""
        with self._asked("tokens"):
            return self._gallery.tokens_of(pictures)

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


def warm_ups(max_batch: int, image: np.ndarray) -> Iterator[list[Query]]:
    """Yields batches of queries that need every program, so that it is compiled; small ones first.

    They are few and many at once, of few and of many words, and with a picture.

    Args:
      max_batch: queries that are answered at once.
      image: uint8 [H,W,3] of the network's size, any.
    """
    yield [Query(like=image)]
    sizes = sorted({min(2**i, max_batch) for i in range(max_batch.bit_length() + 1)})
    for size in sizes:
        for words in WARM_LENGTHS:
            yield [Query(texts=(_text(words, i),)) for i in range(size)]
    yield [Query(texts=(_text(WARM_LENGTHS[0], 0),), like=image)]


def _text(words: int, number: int) -> str:
    """A description of so many words; another number gives another one."""
    known = "a man woman person in with and black white red blue coat shoes bag hat".split()
    return " ".join(known[(number * 7 + i * (number + 1)) % len(known)] for i in range(words))
