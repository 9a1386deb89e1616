"""Files to index are read in threads, ahead of the device."""

import collections
import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cada_jax.common.errors import UsageError
from cada_jax.gallery import records
from cada_jax.gallery.photo import Photo, camera_in, content_of, crop, read_photo
from cada_jax.gallery.plan import Job
from cada_jax.retrieval.images import pixels_of
from cada_jax.retrieval.searchable import Picture

THREADS = 4
AHEAD = 64  # files that wait for the device: small pictures, a few megabytes


@dataclasses.dataclass
class Read:
    """What was read of a file.

    Attributes:
      job: the file.
      content: SHA-256 of its bytes, "" if it cannot be read.
      fresh: (record, uint8 [H,W,3] of the model's size) to encode.
      copied: (record, id) whose pixels are indexed already, under that id.
      problems: reasons why the file or a box cannot be indexed.
    """

    job: Job
    content: str = ""
    fresh: list[tuple[Picture, np.ndarray]] = dataclasses.field(default_factory=list)
    copied: list[tuple[Picture, str]] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)


class Reader:
    """Reads files for one run.

    Args:
      size: height and width in pixels that the model reads.
      camera_pattern: finds the camera in a path; None for EXIF.
      same_pixels: token key -> a record of the gallery with these pixels.
      excluded: contents that are not to be indexed.
    """

    def __init__(
        self,
        size: tuple[int, int],
        camera_pattern: re.Pattern | None,
        same_pixels: dict[str, Picture],
        excluded: frozenset[str],
    ):
        self._size, self._camera_pattern = size, camera_pattern
        self._same_pixels, self._excluded = same_pixels, excluded
        self._sizes = {picture.size for picture in same_pixels.values()}

    def read(self, job: Job) -> Read:
        """Reads one file; what cannot be read becomes a problem."""
        result = Read(job)
        try:
            if job.file.size in self._sizes and self._copy(result):
                return result
            photo = read_photo(job.file.path, job.file.modified_ns, self._camera_pattern)
        except UsageError as err:
            result.problems.append(str(err))
            return result
        result.content = photo.content
        if photo.content in self._excluded:
            return result
        for box, score in job.boxes:
            picture = self._record(job, photo, box, score)
            try:
                pixels = pixels_of(crop(photo.pixels, box), self._size)
            except UsageError as err:
                result.problems.append(str(err))
                continue
            result.fresh.append((picture, pixels))
        return result

    def _copy(self, result: Read) -> bool:
        """Whether all that is to be indexed of a file is there already, under some path."""
        job = result.job
        content = content_of(job.file.path)
        if content in self._excluded:
            result.content = content
            return True
        sources = [self._same_pixels.get(records.token_key(content, box)) for box, _ in job.boxes]
        if not all(sources):
            return False
        result.content = content
        for source, (box, score) in zip(sources, job.boxes, strict=True):
            assert source
            result.copied.append((self._moved(job, source, box, score), source.id))
        return True

    def _moved(self, job: Job, source: Picture, box, score: float | None) -> Picture:
        """The record of pixels that are indexed already, at this file's place."""
        from_file = source.taken == source.modified_ns / 1e9
        camera = camera_in(job.file.path, self._camera_pattern) or source.camera
        return dataclasses.replace(
            source,
            id=records.picture_id(job.file.path, box),
            path=job.file.path,
            size=job.file.size,
            modified_ns=job.file.modified_ns,
            taken=job.file.modified_ns / 1e9 if from_file else source.taken,
            camera=camera,
            box_score=score,
        )

    def _record(self, job: Job, photo: Photo, box, score: float | None) -> Picture:
        height, width = photo.pixels.shape[:2]
        return Picture(
            id=records.picture_id(job.file.path, box),
            path=job.file.path,
            content=photo.content,
            size=job.file.size,
            modified_ns=job.file.modified_ns,
            taken=photo.taken,
            camera=photo.camera,
            width=width,
            height=height,
            box=box,
            box_score=score,
        )


def in_threads(read: Callable[[Job], Read], jobs: Iterable[Job]) -> Iterator[Read]:
    """`map(read, jobs)` in order, some files ahead."""
    threads = min(THREADS, os.cpu_count() or 1)
    waiting: collections.deque = collections.deque()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="read_pictures")
    try:
        for job in jobs:
            waiting.append(executor.submit(read, job))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
