"""Brings a gallery up to date with folders of pictures.

Files are read in threads and encoded in batches. What a batch gives is written in one transaction
while the device encodes the next one, and leaves a gallery that the next run goes on with.
"""

import collections
import contextlib
import dataclasses
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cada_jax.common.console import Progress
from cada_jax.common.errors import UsageError
from cada_jax.common.files import absolute
from cada_jax.distributed.mesh import batch_divisor
from cada_jax.gallery import photo
from cada_jax.gallery.boxes import Boxes
from cada_jax.gallery.reading import Job, Read, Reader, in_threads
from cada_jax.gallery.scan import File, Problem, Scan, check_roots, find_files
from cada_jax.gallery.store import RECOMPUTE, STORE, Encoded, Meta, Store, database
from cada_jax.gallery.store.opening import alone, open_store
from cada_jax.gallery.uri import GalleryUri
from cada_jax.retrieval.encode import encode_batches
from cada_jax.retrieval.searchable import Picture
from cada_jax.retriever import Retriever

# Of a CPU: larger ones are no faster, and a folder with one new picture waits for a whole batch.
CPU_BATCH = 16
WRITTEN_AT_ONCE = 128  # pictures; a killed run repeats so many at most


@dataclasses.dataclass(frozen=True)
class IndexOptions:
    """How to index.

    Attributes:
      tokens: "store" keeps image tokens in bfloat16, "recompute" reads the picture again whenever
        the decoder asks for it. None takes what the gallery has; of a new one "store", or
        "recompute" on a server.
      vector_index: of a new gallery on a Milvus server, see `store.milvus.INDEXES`.
      boxes: persons' boxes; None indexes whole pictures, and keeps boxes that are indexed already.
      camera_pattern: regular expression with one group, the camera in a path; "" for EXIF.
      exclude: globs of what is left out, see `scan.find_files`.
      reindex: drop what is there and begin anew, with another model or other tokens.
      remove_missing: remove records of missing files even if they are more than half.
      include_forgotten: index pictures that were forgotten before.
      batch_size: pictures encoded at once; 0 chooses. The same batch size gives the same bits.
      model_path: what the gallery records as the place of its model.
      wait: for another process that changes the gallery, in place of an error.
      progress: wraps the loop over files.
    """

    tokens: str | None = None
    vector_index: str = ""
    boxes: Boxes | None = None
    camera_pattern: str = ""
    exclude: Sequence[str] = ()
    reindex: bool = False
    remove_missing: bool = False
    include_forgotten: bool = False
    batch_size: int = 0
    model_path: str = ""
    wait: bool = False
    progress: Progress | None = None


@dataclasses.dataclass
class Report:
    """What indexing did.

    Attributes:
      new, changed, moved, unchanged, removed: files. A file under another name than before is
        moved, and not encoded again.
      forgotten: files left out since they were forgotten.
      without_box: files left out since they have no box that holds a picture.
      left_out: other files that are no pictures, by kind.
      unreadable: files with the reason.
      refused: boxes with the reason, by the path of their file.
      missing: pictures whose file is missing and that were kept, see `remove_missing`.
      encoded: pictures that went through the network; a box is one.
      pictures: in the gallery.
      seconds, images_per_second: of reading, encoding and writing.
    """

    new: int = 0
    changed: int = 0
    moved: int = 0
    unchanged: int = 0
    removed: int = 0
    forgotten: int = 0
    without_box: int = 0
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)
    unreadable: list[Problem] = dataclasses.field(default_factory=list)
    refused: list[Problem] = dataclasses.field(default_factory=list)
    missing: int = 0
    encoded: int = 0
    pictures: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0


def index_pictures(
    db: str | os.PathLike,
    images: Sequence[str | os.PathLike],
    retriever: Retriever,
    options: IndexOptions,
) -> Report:
    """Indexes; see `Gallery.index`. Every mistake in the options comes out before a change."""
    start = time.monotonic()
    uri = check_request(db, images, options)
    scan = find_files(images, options.exclude, uri.file)
    if options.boxes:
        options.boxes.match([file.path for file in scan.files])
    tokens = options.tokens or (STORE if uri.file else RECOMPUTE)
    new = Meta.of(retriever, options.model_path, tokens, options.vector_index)
    with alone(uri, options.wait), contextlib.closing(open_store(uri, True, new)) as store:
        if not options.reindex:
            _check_made_with(store, retriever, options)
        run = _Run(store, new if options.reindex else store.meta(), retriever, options)
        report = run.execute(scan, [absolute(root) for root in images])
    report.seconds = round(time.monotonic() - start, 3)
    report.images_per_second = round(report.encoded / max(report.seconds, 1e-9), 2)
    return report


def check_request(
    db: str | os.PathLike, images: Sequence[str | os.PathLike], options: IndexOptions
) -> GalleryUri:
    """The gallery's address; a UsageError for a mistake that can be noticed without the model."""
    uri = GalleryUri.read(db)
    if uri.file:
        database.exists(uri.file)
        if options.vector_index:
            raise UsageError("--vector_index is of a Milvus server: a file compares every vector")
    elif options.tokens == STORE:
        raise UsageError(f"--tokens=store: {uri.name} has no room for them: leave the flag out")
    check_roots(images)
    photo.compile_camera_pattern(options.camera_pattern)
    return uri


def _check_made_with(store: Store, retriever: Retriever, options: IndexOptions) -> None:
    """Raises UsageError for another model or options; the model's folder may have moved."""
    meta = store.meta()
    meta.check(retriever, store.name)
    for name, has in (("tokens", meta.tokens), ("vector_index", meta.index)):
        wished = getattr(options, name)
        if wished and wished != has:
            raise UsageError(
                f"--{name}={wished}: {store.name} was made with {has}: leave the flag out, or make "
                "the gallery anew with --reindex"
            )
    if options.model_path and options.model_path != meta.model_path:
        store.note(dataclasses.replace(meta, model_path=options.model_path))


class _Run:
    """One run of indexing: what it knows, what it has done."""

    def __init__(self, store: Store, meta: Meta, retriever: Retriever, options: IndexOptions):
        self.store, self.meta, self.retriever, self.options = store, meta, retriever, options
        self.report = Report()
        self._keeps = meta.tokens == STORE
        self._begun = not options.reindex
        self._excluded = set() if options.include_forgotten else store.forgotten()
        known = store.rows() if self._begun else {}
        # A forgetting on a server that was killed may have left some.
        self._stale = [id for id, p in known.items() if p.content in self._excluded]
        self.pictures = {id: p for id, p in known.items() if p.content not in self._excluded}
        # What this run may replace, while a moved file still takes its vector from there.
        self._saved: dict[str, Encoded] = {}
        self._fresh: list[tuple[list[Picture], np.ndarray, np.ndarray]] = []
        self._copied: list[tuple[Picture, str]] = []
        self._moved: list[str] = []

    def execute(self, scan: Scan, roots: Sequence[str]) -> Report:
        """Does what there is to do, and tells of it."""
        report = self.report
        report.unreadable, report.left_out = list(scan.problems), dict(scan.left_out)
        jobs = self._jobs(scan.files)
        self._saved = self.store.encoded([p.id for job in jobs for p in job.known])
        size = self.retriever.config.data.image_size
        pattern = photo.compile_camera_pattern(self.options.camera_pattern)
        by_pixels = {(p.content, p.box): p for p in self.pictures.values() if self._has_tokens(p)}
        reader = Reader((size[0], size[1]), pattern, by_pixels, self._excluded)
        reads: Iterable[Read] = in_threads(reader.read, jobs)
        if self.options.progress and jobs:
            reads = self.options.progress(reads, len(jobs), "index pictures")
        batches = _batches(self._noted(reads), batch_size(self.retriever, self.options.batch_size))
        try:
            for pictures, vectors, tokens in encode_batches(self.retriever, batches):
                self._add(pictures, vectors, tokens)  # while the device encodes the next ones
        except KeyboardInterrupt:  # what is encoded is kept
            self._write()
            raise
        self._write()
        if going := self._stale + self._gone(scan, roots):
            self.store.put([], remove=going)
        report.pictures = len(self.store)
        return report

    def _has_tokens(self, picture: Picture) -> bool:
        return not self._keeps or picture.tokens is not None

    def _jobs(self, files: Sequence[File]) -> list[Job]:
        """What has to be read; files that are as they were are counted."""
        by_path: dict[str, list[Picture]] = collections.defaultdict(list)
        for picture in self.pictures.values():
            by_path[picture.path].append(picture)
        jobs = []
        for file in files:
            known, given = by_path.get(file.path, []), self.options.boxes
            boxes: Sequence = [(p.box, p.box_score) for p in known] or [(None, None)]
            boxes = boxes if given is None else given.of(file.path)
            if not boxes and not known:
                self.report.without_box += 1
                continue
            # A box that holds no picture is not read again for that.
            wanted = {box for box, _ in boxes if not known or photo.fits(box, known[0])}
            if (
                known
                and {p.box for p in known} == wanted
                and all(
                    self._has_tokens(p) and (p.size, p.modified_ns, p.changed_ns) == file[1:]
                    for p in known
                )
            ):
                self.report.unchanged += 1
            else:
                jobs.append(Job(file, boxes, known))
        return jobs

    def _noted(self, reads: Iterable[Read]) -> Iterator[tuple[Picture, np.ndarray]]:
        """Counts what was read, collects copies, yields what has to be encoded."""
        report = self.report
        for read in reads:
            job = read.job
            report.refused += read.refused
            if read.problem:
                report.unreadable.append(Problem(job.file.path, read.problem))
            made = {picture.id for picture, _ in (*read.fresh, *read.copied)}
            self._stale += [p.id for p in job.known if p.id not in made]
            moved = [source.id for copy, source in read.copied if _is_moved(source, copy.path)]
            if job.known:
                touched = not read.fresh and {p.content for p in job.known} == {read.content}
                report.unchanged += bool(made) and touched
                report.changed += bool(made) and not touched
            elif moved:
                report.moved += 1
            else:
                report.new += bool(made)
            forgotten = read.content in self._excluded
            report.forgotten += forgotten
            report.without_box += not (made or read.problem or forgotten)
            self._copied += [(copy, source.id) for copy, source in read.copied]
            self._moved += moved
            for id in moved:
                self.pictures.pop(id, None)
            self._write_if_full()
            yield from read.fresh

    def _add(self, pictures: list[Picture], vectors: np.ndarray, tokens: np.ndarray) -> None:
        """Takes encoded pictures; the last batch was filled up."""
        self._fresh.append((pictures, vectors[: len(pictures)], tokens[: len(pictures)]))
        self.report.encoded += len(pictures)
        self._write_if_full()

    def _write_if_full(self) -> None:
        if sum(len(rows) for rows, *_ in self._fresh) + len(self._copied) >= WRITTEN_AT_ONCE:
            self._write()

    def _write(self) -> None:
        """Writes encoded pictures, and copies, in one transaction."""
        if not self._begun:  # what a reindexing replaces goes now, and not sooner
            self.store.note(self.meta, anew=True)
            self._begun = True
        fresh, copied, moved = self._fresh, self._copied, self._moved
        self._fresh, self._copied, self._moved = [], [], []
        rows = []
        for pictures, vectors, tokens in fresh:
            kept = tokens if self._keeps else [None] * len(pictures)
            rows += zip(pictures, map(Encoded, vectors, kept), strict=True)
        self._saved |= self.store.encoded({id for _, id in copied} - self._saved.keys())
        rows += [(copy, self._saved[id]) for copy, id in copied]
        if rows:
            self.store.put(rows, remove=moved)

    def _gone(self, scan: Scan, roots: Sequence[str]) -> list[str]:
        """Ids of pictures whose files are no longer there; none, if that looks like a mistake."""
        there = {file.path for file in scan.files}
        skipped = [problem.path for problem in scan.problems]
        here = [p for p in self.pictures.values() if _is_below(p.path, roots)]
        gone = [p for p in here if p.path not in there and not _is_below(p.path, skipped)]
        if not self.options.remove_missing:
            # A drive that is not mounted leaves an empty folder.
            many = 2 * len(gone) > len(here)
            going = [p for p in gone if not many and not _is_below(p.path, scan.empty)]
            self.report.missing, gone = len(gone) - len(going), going
        self.report.removed = len({p.path for p in gone})
        return [p.id for p in gone]


def _is_below(path: str, roots: Iterable[str]) -> bool:
    """Whether a path is one of the roots, or lies below one."""
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


def _is_moved(source: Picture, path: str) -> bool:
    """Whether a file is the one that a picture was made of, under another name or spelling."""
    try:
        return source.path != path and os.path.samefile(source.path, path)
    except OSError:
        return not os.path.lexists(source.path)


def batch_size(retriever: Retriever, wished: int = 0) -> int:
    """Pictures that are encoded at once: as wished, 0 to choose, rounded up for the devices."""
    devices = batch_divisor(retriever.mesh)
    most = retriever.config.eval.batch_size
    on_cpu = retriever.mesh.devices.flat[0].platform == "cpu"
    size = wished or (min(most, CPU_BATCH) if on_cpu else most)
    return -(-size // devices) * devices


def _batches(crops: Iterable[tuple[Picture, np.ndarray]], size: int) -> Iterator[tuple]:
    """(records, images [size,H,W,3]); the last is filled up with its first image."""
    crops = iter(crops)
    while waiting := list(itertools.islice(crops, size)):
        images = [pixels for _, pixels in waiting]
        images += images[:1] * (size - len(images))
        yield [picture for picture, _ in waiting], np.stack(images)
