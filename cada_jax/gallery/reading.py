"""Reads picture files for one run of indexing, in threads, ahead of the device."""

import collections
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from cada_jax.common.errors import UsageError
from cada_jax.common.images import resized
from cada_jax.gallery import photo
from cada_jax.gallery.scan import File, Problem
from cada_jax.retrieval.searchable import Picture

AHEAD, CHUNK = 96, 12  # files that wait for the device, and that a thread reads at once
SWITCH_SECONDS = 5e-4
Sides = tuple[float, float, float, float]


class Job(NamedTuple):
    """A file to read.

    file: as it is now; boxes: what to index of it, (sides, score), (None, None) for the whole
    picture; known: pictures of its path.
    """

    file: File
    boxes: Sequence[tuple[Sides | None, float | None]]
    known: list[Picture]


class Read(NamedTuple):
    """What was read of a file.

    content: SHA-256 of its bytes, "" if it cannot be read; fresh: (record, uint8 [H,W,3] of the
    model's size) to encode; copied: (record, the picture of the gallery that has its pixels);
    refused: boxes that hold no picture, with the reason; problem: why it cannot be indexed.
    """

    job: Job
    content: str
    fresh: list[tuple[Picture, np.ndarray]]
    copied: list[tuple[Picture, Picture]]
    refused: list[Problem]
    problem: str


class Reader:
    """Reads files for one run.

    Args:
      size: height and width in pixels that the model reads.
      pattern: finds the camera in a path; None for EXIF.
      by_pixels: (content, box) -> a picture of the gallery with these pixels.
      excluded: contents that are not to be indexed.
    """

    def __init__(
        self,
        size: tuple[int, int],
        pattern: Any,
        by_pixels: dict[tuple[str, Sides | None], Picture],
        excluded: set[str],
    ):
        self._size, self._pattern = size, pattern
        self._by_pixels, self._excluded = by_pixels, excluded

    def read(self, job: Job) -> Read:
        """Reads one file; why it cannot be read becomes its problem."""
        result = Read(job, "", [], [], [], "")
        try:
            data = photo.picture_bytes(job.file.path)
            content = photo.content_of(data)
            if content in self._excluded:
                return result._replace(content=content)
            self._find(result, data, content)
            return result._replace(content=content)
        except UsageError as err:
            return result._replace(problem=str(err), fresh=[], copied=[])

    def _find(self, result: Read, data: bytes, content: str) -> None:
        """Finds what is to be indexed; only pixels that no picture has yet are decoded."""
        path, known = result.job.file.path, self._by_pixels
        for box, score in result.job.boxes:
            if source := known.get((content, box)):
                result.copied.append((self._copy(result.job, source, score), source))
        missing = [(box, score) for box, score in result.job.boxes if (content, box) not in known]
        if not missing:
            return
        decoded = photo.decode_photo(data, path, result.job.file.modified_ns, self._pattern)
        for box, score in missing:
            try:
                pixels = resized(photo.crop(decoded.image, box), self._size)
            except UsageError as err:
                result.refused.append(Problem(path, str(err)))
                continue
            file, (width, height) = result.job.file, decoded.image.size
            record = Picture(
                *(_id(path, box), path, content, file.size, file.modified_ns, file.changed_ns),
                *(decoded.taken, decoded.camera, width, height, box, score),
            )
            result.fresh.append((record, pixels))

    def _copy(self, job: Job, source: Picture, score: float | None) -> Picture:
        """The record of pixels that are indexed already, at this file's place."""
        from_file = source.taken == source.modified_ns / 1e9
        return dataclasses.replace(
            source,
            **job.file._asdict(),
            id=_id(job.file.path, source.box),
            taken=job.file.modified_ns / 1e9 if from_file else source.taken,
            camera=photo.camera_in(job.file.path, self._pattern) or source.camera,
            box_score=score,
        )


def _id(path: str, box: Sides | None) -> str:
    """The id of what lies at a place: the SHA-256 of path and box, 32 digits."""
    text = "" if box is None else json.dumps(box)
    return hashlib.sha256(f"{path}\0{text}".encode()).hexdigest()[:32]


def in_threads(read: Callable[[Job], Read], jobs: Sequence[Job]) -> Iterator[Read]:
    """`map(read, jobs)` in order, some files ahead."""
    # With its usual 5 ms a reader would keep Python from whoever feeds the device.
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    executor = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="read_pictures")
    chunks = (jobs[begin : begin + CHUNK] for begin in range(0, len(jobs), CHUNK))
    waiting: collections.deque = collections.deque()
    try:
        for chunk in chunks:  # files by the dozen: to wake a thread for each costs as much again
            waiting.append(executor.submit(lambda chunk=chunk: list(map(read, chunk))))
            if len(waiting) > AHEAD // CHUNK:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
        sys.setswitchinterval(before)
