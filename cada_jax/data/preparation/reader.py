"""Image files and their captions to the records stored of them, on one core or on many.

Imports no TensorFlow, so that a worker process starts in two seconds.
"""

import collections
import concurrent.futures
import functools
import hashlib
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cada_jax.common.images import PictureError, check_decodes
from cada_jax.data.preparation.records import serialize
from cada_jax.data.preparation.source import Entry
from cada_jax.text.attribute_phrases import CaptionEncoder
from cada_jax.text.tokenizer import Tokenizer

CHUNK = 32  # images that are read at once
FEW_IMAGES = 2000  # are read before worker processes have started
MOST_WORKERS = 8  # more of them only wait for the one process that writes the records


# What a `CaptionEncoder` is made from in any process: the vocabulary's file, max_length, tagger,
# tag_unit; see `CaptionConfig`.
EncoderSettings = tuple[str, int, str, str]


class Read(NamedTuple):
    """One image read.

    Attributes:
      problem: None if the image is usable.
      digest: SHA-256 of its bytes.
      example: see `records.serialize`; empty if there is a problem or it was not asked for.
    """

    problem: str | None
    digest: bytes = b""
    example: bytes = b""


@functools.lru_cache(maxsize=1)
def load_encoder(settings: EncoderSettings) -> CaptionEncoder:
    """Returns the encoder of these settings, loaded once in a process.

    Raises:
      MissingFileError: the vocabulary or the tagger's data is missing.
    """
    return CaptionEncoder(Tokenizer(settings[0]), *settings[1:])


def _read_file(entry: Entry) -> tuple[bytes, str | None]:
    """The bytes of an image, and what is wrong with them: all of them are decoded to know."""
    try:
        data = Path(entry.path).read_bytes()
        check_decodes(data)
        return data, None
    except OSError as err:
        fault = f"cannot be read ({err.strerror})"
    except PictureError as err:
        fault = str(err)
    return b"", f"{entry.place}: image {entry.path} {fault}"


def read_chunk(entries: Sequence[Entry], settings: EncoderSettings | None) -> list[Read]:
    """Reads images and makes their records; arguments as of `read_all`."""
    # All files, then all captions: taking turns at every image, the two took a fifth longer.
    files = [_read_file(entry) for entry in entries]
    found = []
    for entry, (data, problem) in zip(entries, files, strict=True):
        example = b""
        if settings and not problem:
            captions = load_encoder(settings).encode(entry.captions, entry.image)
            example = serialize(data, entry.image, entry.pid, captions)
        found.append(Read(problem, hashlib.sha256(data).digest(), example))
    return found


def read_all(
    entries: Sequence[Entry], settings: EncoderSettings | None, workers: int = 0
) -> Iterator[Read]:
    """Reads images in order, a bounded number ahead.

    Args:
      settings: of the captions' encoder; None only checks the images.
      workers: processes; 0 reads in this one. They are started anew ("spawn"), so a script that
        asks for them needs `if __name__ == "__main__":`.
    """
    chunks = (entries[i : i + CHUNK] for i in range(0, len(entries), CHUNK))
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
