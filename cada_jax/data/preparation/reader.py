"""Image files and their captions to the records stored of them, on one core or on many.

Imports no TensorFlow, so that a worker process starts in two seconds.
"""

import collections
import concurrent.futures
import functools
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cada_jax.common.images import PictureError
from cada_jax.data.preparation.stored_image import stored_form
from cada_jax.data.preparation.tf_example import serialize_example
from cada_jax.text.attribute_phrases import CaptionEncoder
from cada_jax.text.tokenizer import Tokenizer

CHUNK = 32  # images that are read at once
FEW_IMAGES = 2000  # are read before worker processes have started
MOST_WORKERS = 8  # more of them only wait for the one process that writes the records


class EncoderSettings(NamedTuple):
    """What a `CaptionEncoder` is made from, in any process; see `CaptionConfig`."""

    vocab_path: str
    max_length: int
    tagger: str
    tag_unit: str


class Job(NamedTuple):
    """One image to read.

    Attributes:
      path: its file, None where there is none.
      image_path: as the annotation file names it.
      pid: person number.
      captions: as published.
      label: what messages call the image, by default its file.
    """

    path: str | None
    image_path: str
    pid: int
    captions: tuple[str, ...]
    label: str = ""


class Read(NamedTuple):
    """One image read.

    Attributes:
      example: see `serialize_example`; empty if there is a problem or it was not asked for.
      problem: None if the image is usable.
      image: what would be stored of the image, where no example was asked for.
    """

    example: bytes
    problem: str | None
    image: bytes = b""


@functools.lru_cache(maxsize=1)
def load_encoder(settings: EncoderSettings) -> CaptionEncoder:
    """Returns the encoder of these settings, loaded once in a process.

    Raises:
      MissingFileError: the vocabulary or the tagger's data is missing.
    """
    return CaptionEncoder(Tokenizer(settings.vocab_path), *settings[1:])


def read_file(job: Job) -> tuple[bytes, str | None]:
    """Returns what to store of an image file (see `stored_form`), and what is wrong with it."""
    if job.path is None:
        return b"", f"{job.label or f'image {job.image_path}'} is missing"
    name = f"{job.label} ({job.path})" if job.label else f"image {job.path}"
    try:
        return stored_form(Path(job.path).read_bytes()), None
    except OSError as err:
        return b"", f"{name} cannot be read ({err.strerror})"
    except PictureError as err:
        return b"", f"{name} {err}"


def read_chunk(jobs: Sequence[Job], settings: EncoderSettings | None) -> list[Read]:
    """Reads images, decodes them to see that they can be, and makes their records.

    Args:
      jobs: what to read.
      settings: of the captions' encoder; None only checks the images.

    Raises:
      UsageError: a caption is empty or no string.
    """
    # All files, then all captions: taking turns at every image, the two took a fifth longer.
    files = [read_file(job) for job in jobs]
    if settings is None:
        return [Read(b"", problem, data) for data, problem in files]
    encode = load_encoder(settings).encode
    encoded = [
        [] if problem else encode(job.captions, job.image_path)
        for job, (_, problem) in zip(jobs, files, strict=True)
    ]
    return [
        Read(
            b"" if problem else serialize_example(data, job.image_path, job.pid, captions), problem
        )
        for job, (data, problem), captions in zip(jobs, files, encoded, strict=True)
    ]


def read_all(
    jobs: Sequence[Job], settings: EncoderSettings | None, workers: int = 0
) -> Iterator[Read]:
    """Reads images in order, a bounded number ahead.

    Args:
      jobs: what to read.
      settings: of the captions' encoder; None only checks the images.
      workers: processes; 0 reads in this one. They are started anew ("spawn"), so a script that
        asks for them needs `if __name__ == "__main__":`.
    """
    chunks = (jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK))
    if workers <= 0:
        for chunk in chunks:
            yield from read_chunk(chunk, settings)
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),
        initializer=signal.signal,  # Ctrl-C is this process's affair
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    ahead: collections.deque[concurrent.futures.Future] = collections.deque()
    try:
        for chunk in chunks:
            ahead.append(pool.submit(read_chunk, chunk, settings))
            if len(ahead) > 2 * workers:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def worker_count(images: int) -> int:
    """Returns how many processes pay for themselves: one a core up to a limit, 0 for few images."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return 0 if cores == 1 or images < FEW_IMAGES else min(cores, MOST_WORKERS)
