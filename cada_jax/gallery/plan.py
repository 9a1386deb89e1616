"""What indexing has to do: files as they are against records as they were. Nothing is read here."""

import collections
import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence

from cada_jax.gallery.records import Box
from cada_jax.gallery.scan import File
from cada_jax.retrieval.searchable import Picture


@dataclasses.dataclass(frozen=True)
class Job:
    """A file to read.

    Attributes:
      file: as it is now.
      boxes: what to index of it: (box, detector's score), (None, None) for the whole picture.
      known: records of its path.
    """

    file: File
    boxes: tuple[tuple[Box | None, float | None], ...]
    known: tuple[Picture, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What indexing has to do.

    Attributes:
      unchanged: number of files that are as they were.
      jobs: files that are new, changed, or have other boxes.
      gone: records of files that are no longer there.
    """

    unchanged: int
    jobs: list[Job]
    gone: list[Picture]


def below(path: str, roots: Iterable[str]) -> bool:
    """Whether a path is one of the roots, or lies below one."""
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


def make_plan(
    files: Sequence[File],
    records: Iterable[Picture],
    roots: Sequence[str | os.PathLike],
    boxes_of: Callable[[str], Sequence[tuple[Box | None, float | None]]] | None,
    skipped: frozenset[str] = frozenset(),
) -> Plan:
    """Compares.

    Args:
      files: that are there.
      records: of the gallery.
      roots: the folders that were looked through; records outside are left alone.
      boxes_of: path -> boxes to index; None keeps the boxes that a file has, and takes a new file
        whole.
      skipped: paths that could not be looked at, which therefore are not gone.
    """
    by_path: dict[str, list[Picture]] = collections.defaultdict(list)
    for picture in records:
        by_path[picture.path].append(picture)
    unchanged, jobs = 0, []
    for file in files:
        known = tuple(by_path.get(file.path, ()))
        boxes = _boxes(file, known, boxes_of)
        if not boxes and not known:
            continue
        same = all((p.size, p.modified_ns) == (file.size, file.modified_ns) for p in known)
        if same and known and {p.box for p in known} == {box for box, _ in boxes}:
            unchanged += 1
        else:
            jobs.append(Job(file, boxes, known))
    there = {file.path for file in files}
    folders = [os.path.abspath(os.path.expanduser(os.fspath(root))) for root in roots]
    gone = [
        picture
        for path, pictures in by_path.items()
        if path not in there and below(path, folders) and not below(path, skipped)
        for picture in pictures
    ]
    return Plan(unchanged, jobs, gone)


def _boxes(file: File, known: Sequence[Picture], boxes_of) -> tuple:
    if boxes_of is not None:
        return tuple(boxes_of(file.path))
    return tuple((p.box, p.box_score) for p in known) or ((None, None),)
