"""Brings a gallery up to date with folders of pictures.

The order of writing makes a kill harmless at any moment: tokens before the vector that needs them,
a file's new records before its old ones go, records before their tokens and thumbnails go. What a
kill leaves over is removed by the next run.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from cada_jax.common.files import write_text
from cada_jax.distributed.mesh import batch_divisor
from cada_jax.gallery import meta as meta_lib
from cada_jax.gallery import records
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.index_options import IndexOptions, Report
from cada_jax.gallery.making import opened
from cada_jax.gallery.photo import compile_camera_pattern
from cada_jax.gallery.place import place_of
from cada_jax.gallery.plan import Plan, make_plan
from cada_jax.gallery.reading import Read, Reader, in_threads
from cada_jax.gallery.scan import Problem, find_files
from cada_jax.gallery.summary import summarize
from cada_jax.gallery.writing import Writer
from cada_jax.retrieval.encode import encode_batches
from cada_jax.retrieval.searchable import Picture
from cada_jax.retriever import Retriever

# Of a CPU: larger ones are no faster, and a folder with one new picture waits for a whole batch.
CPU_BATCH = 16
FEW_GONE = 20  # so many may vanish without a question


def index(
    db: str | os.PathLike,
    images: Sequence[str | os.PathLike],
    retriever: Retriever,
    options: IndexOptions,
) -> Report:
    """Indexes; see `Gallery.index`."""
    place = place_of(db)
    files, problems = find_files(images)
    if options.boxes:
        options.boxes.match([file.path for file in files])  # before anything is made
    with opened(place, retriever, options) as gallery:
        run = _Run(gallery, retriever, options)
        run.report.unreadable += problems
        boxes_of = options.boxes.of if options.boxes else None
        plan = make_plan(
            files,
            run.pictures.values(),
            images,
            None if boxes_of is None else lambda path: [_box(b) for b in boxes_of(path)],
            frozenset(problem.path for problem in problems),
        )
        return run.execute(plan)


def _box(box: Any) -> tuple:
    return (box.x, box.y, box.width, box.height), box.score


class _Run:
    """One run of indexing: what it knows, what it has done."""

    def __init__(self, gallery: Gallery, retriever: Retriever, options: IndexOptions):
        self.gallery, self.retriever, self.options = gallery, retriever, options
        self.report = Report()
        self.pictures = {picture.id: picture for picture in gallery.all_pictures()}
        self.stale: list[str] = []
        excluded: frozenset[str] = frozenset()
        if not options.include_forgotten:
            texts = gallery.vectors.state(meta_lib.EXCLUDED)
            excluded = frozenset(text.removeprefix(meta_lib.EXCLUDED) for text in texts)
        self._finish_forgetting(excluded)
        self.reader = Reader(
            tuple(retriever.config.data.image_size),
            compile_camera_pattern(options.camera_pattern) if options.camera_pattern else None,
            {records.token_key(p.content, p.box): p for p in self.pictures.values()},
            excluded,
        )

    def _finish_forgetting(self, excluded: frozenset[str]) -> None:
        """Removes what a forgetting that was killed has left; `_sweep` removes its tokens."""
        left = [id for id, picture in self.pictures.items() if picture.content in excluded]
        if left:
            self.remove(left)
            self.gallery.vectors.rewrite()

    def execute(self, plan: Plan) -> Report:
        """Does what is planned."""
        start = time.monotonic()
        self.report.unchanged = plan.unchanged
        reads: Iterable[Read] = in_threads(self.reader.read, plan.jobs)
        if self.options.progress and plan.jobs:
            reads = self.options.progress(reads, len(plan.jobs), "index pictures")
        known = [picture.id for job in plan.jobs for picture in job.known]
        saved = self.gallery.vectors.get(known, ["id", "vector"])
        with Writer(self.gallery, self.pictures, saved, self.options.after) as writer:
            self._encode(self._note(reads, writer), writer)
        self.remove(self.stale)
        self.options.after("stale")
        self._remove_gone(plan.gone)
        self._sweep()
        self._note_state()
        self.gallery.vectors.flush()
        self._write_problems()
        report = self.report
        report.pictures = len(self.pictures)
        report.seconds = round(time.monotonic() - start, 3)
        report.images_per_second = round(report.encoded / max(report.seconds, 1e-9), 2)
        return report

    def _note(self, reads: Iterable[Read], writer: Writer) -> Iterator[tuple]:
        """Counts what was read, hands copies to the writer, yields what has to be encoded."""
        for read in reads:
            job, report = read.job, self.report
            report.unreadable += [Problem(job.file.path, reason) for reason in read.problems]
            made = [picture.id for picture, _ in (*read.fresh, *read.copied)]
            # They go when all that is new is written.
            self.stale += [p.id for p in job.known if p.id not in made]
            if read.copied and all(p.content == read.content for p in job.known) and job.known:
                report.unchanged += 1  # touched only
            elif read.copied and job.known:
                report.changed += 1
            elif read.copied:
                report.moved += 1
            elif read.fresh:
                report.changed += bool(job.known)
                report.new += not job.known
            elif not read.problems and read.content:
                report.forgotten += bool(job.boxes)
            writer.copy(read.copied)
            yield from read.fresh

    def _encode(self, crops: Iterable[tuple[Picture, np.ndarray]], writer: Writer) -> None:
        size = batch_size(self.retriever, self.options.batch_size)
        for rows, embeddings, tokens in encode_batches(self.retriever, _batches(crops, size)):
            count = len(rows)
            self.report.encoded += count
            writer.add(rows, embeddings[:count], tokens[:count])

    def _remove_gone(self, gone: Sequence[Picture]) -> None:
        few = len(gone) <= max(FEW_GONE, len(self.pictures) // 2)
        if gone and not few and not self.options.remove_missing:
            self.report.kept_missing = len(gone)
            return
        self.report.removed = len({picture.path for picture in gone})
        self.remove([picture.id for picture in gone])
        self.options.after("gone")

    def remove(self, ids: Sequence[str]) -> None:
        """Removes records, then thumbnails; `_sweep` removes the tokens."""
        ids = [id for id in ids if id in self.pictures]
        self.gallery.vectors.remove(ids)
        self.gallery.remove_thumbnails(ids)
        for id in ids:
            del self.pictures[id]

    def _sweep(self) -> None:
        """Removes tokens that no record has, of this run or of one that was killed."""
        if not (store := self.gallery.tokens):
            return
        used = {records.token_key(p.content, p.box) for p in self.pictures.values()}
        store.remove(store.keys() - used)
        self.options.after("sweep")

    def _note_state(self) -> None:
        """Counts the pictures; those that are indexed again are no longer left out."""
        vectors, pictures = self.gallery.vectors, self.pictures.values()
        if self.options.include_forgotten:
            included = {meta_lib.EXCLUDED + picture.content for picture in pictures}
            vectors.drop_state(included & set(vectors.state(meta_lib.EXCLUDED)))
        vectors.set_state({meta_lib.SUMMARY: json.dumps(summarize(pictures))})

    def _write_problems(self) -> None:
        folder = self.gallery.place.folder
        if folder is None:
            return
        lines = [json.dumps(problem._asdict()) + "\n" for problem in self.report.unreadable]
        write_text(folder / "unreadable.jsonl", "".join(lines))


def batch_size(retriever: Retriever, wished: int = 0) -> int:
    """Pictures that are encoded at once: as wished, 0 to choose, rounded up for the devices."""
    devices = batch_divisor(retriever.mesh)
    most = retriever.config.eval.batch_size
    on_cpu = retriever.mesh.devices.flat[0].platform == "cpu"
    size = wished or (min(most, CPU_BATCH) if on_cpu else most)
    return -(-size // devices) * devices


def _batches(crops: Iterable[tuple[Picture, np.ndarray]], size: int) -> Iterator[tuple]:
    """(records, images [size,H,W,3]); the last is filled up with its first image."""
    waiting: list[tuple[Picture, np.ndarray]] = []

    def batch() -> tuple:
        images = [pixels for _, pixels in waiting]
        images += images[:1] * (size - len(images))
        return [picture for picture, _ in waiting], np.stack(images)

    for crop in crops:
        waiting.append(crop)
        if len(waiting) == size:
            yield batch()
            waiting = []
    if waiting:
        yield batch()
