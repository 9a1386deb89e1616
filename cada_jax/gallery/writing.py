"""Writes encoded pictures into a gallery while the device encodes the next ones."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from cada_jax.gallery import records
from cada_jax.gallery.gallery import Gallery
from cada_jax.retrieval.searchable import Picture

AT_ONCE = 256  # pictures; a killed run repeats so many at most


class Writer:
    """Collects, and writes in a thread of its own. A `with` block ends when all is written.

    Args:
      gallery: open for writing.
      pictures: its records by id; what is written is added.
      saved: rows by id with the vectors of records that this run may replace. A moved file copies
        its vector from there, since a new picture may lie at its old path by now.
      after: called with "tokens" and "vectors" when these are written.
    """

    def __init__(
        self,
        gallery: Gallery,
        pictures: dict[str, Picture],
        saved: dict[str, dict],
        after: Callable[[str], None],
    ):
        self._gallery, self._pictures, self._saved, self._after = gallery, pictures, saved, after
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write_gallery")
        self._running: Future | None = None
        self._rows: list[tuple[Picture, np.ndarray]] = []
        self._tokens: dict[str, np.ndarray] = {}
        self._copied: list[tuple[Picture, str]] = []

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: Any, *error: object) -> None:
        try:
            if kind in (None, KeyboardInterrupt):  # what is encoded is kept
                self._flush()
                self._wait()
        finally:
            self._thread.shutdown(cancel_futures=True)

    def add(self, pictures: Sequence[Picture], vectors: np.ndarray, tokens: np.ndarray) -> None:
        """Takes encoded pictures.

        Args:
          pictures: n records.
          vectors: float32 [n,E] of length 1.
          tokens: [n,S,Dv].
        """
        self._rows += zip(pictures, vectors, strict=True)
        if self._gallery.tokens:
            keys = [records.token_key(p.content, p.box) for p in pictures]
            self._tokens |= dict(zip(keys, tokens, strict=True))
        self._flush_if_full()

    def copy(self, copied: Sequence[tuple[Picture, str]]) -> None:
        """Takes records whose vector is that of another record, given by id."""
        self._copied += copied
        self._flush_if_full()

    def _flush_if_full(self) -> None:
        if len(self._rows) + len(self._copied) >= AT_ONCE:
            self._flush()

    def _wait(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            running.result()

    def _flush(self) -> None:
        self._wait()
        work = self._rows, self._tokens, self._copied
        self._rows, self._tokens, self._copied = [], {}, []
        self._running = self._thread.submit(self._write, *work)

    def _write(self, rows: list, tokens: dict, copied: list) -> None:
        if self._gallery.tokens and tokens:
            self._gallery.tokens.write(tokens)
        self._after("tokens")
        missing = [id for _, id in copied if id not in self._saved]
        vectors = self._saved | self._gallery.vectors.get(missing, ["id", "vector"])
        rows = rows + [(picture, vectors[id]["vector"]) for picture, id in copied]
        self._gallery.vectors.add([records.to_row(*row) for row in rows])
        # Thumbnails of replaced pictures carry the old file's time and are made again.
        self._pictures.update({picture.id: picture for picture, _ in rows})
        self._after("vectors")
