r"""Indexes folders of pictures, or brings a gallery up to date with them.

    python -m cada_jax index --model=pretrained:synthetic --images=photos --db=people.db
    python -m cada_jax index --model=DIR --images=photos --db=people.db --watch
    python -m cada_jax index --model=DIR --images=scenes --boxes=detections.json --db=people.db
    python -m cada_jax index --model=DIR --images=/archive --db=http://host:19530

The same command again reads new and changed files, and removes the records of deleted ones. A run
that was killed is continued. Files that cannot be read are listed, counted and left out. The
gallery may be searched and served meanwhile.

The exit status is 0 when the gallery is up to date, 1 if it holds no picture afterwards, 2 if
indexing could not be done.
"""

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from cada_jax.common.command_line import DONE, Flags, run_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cada_jax.gallery.index import IndexOptions, Report

EMPTY = 1
SHOWN = 20  # problems that are listed; --json prints all
TOKENS = ("store", "recompute")
INDEXES = ("FLAT", "HNSW", "IVF_SQ8", "DISKANN")


def main(argv: list[str] | None = None) -> int:
    """Parses the flags, indexes and prints a report; returns the exit status.

    Args:
      argv: the arguments; those of the process if None.
    """
    return run_command(lambda: _index(_parse(argv)))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Flags("cada_jax index", __doc__)
    add = parser.add_argument
    add("--model", required=True, help="a model folder or pretrained:NAME")
    add("--images", required=True, nargs="+", action="extend", help="folders, or picture files")
    add("--db", required=True, help="the gallery: a file, or http://HOST:PORT[#COLLECTION]")
    made = parser.add_argument_group("settled when the gallery is made").add_argument
    made("--tokens", choices=TOKENS, help="image tokens for re-ranking (store; on a server not)")
    server = "of a Milvus server; FLAT is exact (FLAT)"
    made("--vector_index", default="", choices=INDEXES, help=server)
    add("--boxes", default="", metavar="FILE", help="persons' boxes in COCO's detection format")
    found = "finds persons, as hf:PekingU/rtdetr_r18vd; --boxes keeps them, and may be edited"
    add("--detect", default="", metavar="MODEL", help=found)
    add("--boxes_images", default="", metavar="FILE", help="COCO's list of images for them")
    add("--min_box_score", type=float, default=0.0, help="leave out boxes that score less (0)")
    pattern = "the camera in a path: a regular expression with one group (default: EXIF)"
    add("--camera_pattern", default="", metavar="REGEX", help=pattern)
    left_out = "leave out names, or with a / paths, like this; may be repeated"
    add("--exclude", action="append", default=[], metavar="GLOB", help=left_out)
    add("--reindex", action="store_true", help="drop the gallery and index again")
    missing = "remove records although more than half of the files are missing"
    add("--remove_missing", action="store_true", help=missing)
    add("--include_forgotten", action="store_true", help="index what was forgotten, too")
    add("--batch_size", type=int, default=0, help="pictures encoded at once (chosen)")
    add("--watch", action="store_true", help="go on, and index whatever changes; Ctrl-C ends it")
    add("--json", action="store_true", help="print the report as one JSON object")
    return parser.parse_args(argv)


def _options(flags: argparse.Namespace) -> "IndexOptions":
    from cada_jax.common.console import progress_bar
    from cada_jax.common.errors import UsageError, needs_extra
    from cada_jax.common.files import absolute
    from cada_jax.gallery.boxes import read_boxes
    from cada_jax.gallery.index import IndexOptions

    if flags.boxes_images and not flags.boxes:
        raise UsageError("--boxes_images names the pictures of boxes: expected --boxes beside it")
    if not 0 <= flags.min_box_score <= 1:
        raise UsageError(f"--min_box_score={flags.min_box_score}: expected 0 to 1")
    if not 0 <= flags.batch_size <= 4096:
        raise UsageError(f"--batch_size={flags.batch_size}: expected 1 to 4096, or 0 to choose")
    if flags.watch:
        with needs_extra("search"):
            import watchfiles  # noqa: F401
    if flags.detect:
        _detect(flags)
    boxes = None
    if flags.boxes:
        boxes = read_boxes(flags.boxes, flags.min_box_score, flags.boxes_images or None)
    named = ":" in flags.model  # pretrained:NAME
    others: dict[str, Any] = {
        "boxes": boxes,
        "model_path": flags.model if named else absolute(flags.model),
        "wait": flags.watch,
        "progress": progress_bar,
    }
    names = {field.name for field in dataclasses.fields(IndexOptions)}
    return IndexOptions(**{k: v for k, v in (vars(flags) | others).items() if k in names})


def _detect(flags: argparse.Namespace) -> None:
    """Brings the file of boxes up to date with the pictures."""
    from cada_jax.common.console import progress_bar
    from cada_jax.common.files import absolute
    from cada_jax.gallery.detect import detect_persons
    from cada_jax.gallery.scan import find_files

    flags.boxes = flags.boxes or absolute(flags.db) + ".boxes.json"
    paths = [file.path for file in find_files(flags.images, flags.exclude).files]
    detect_persons(flags.detect, paths, flags.boxes, progress_bar)


def _index(flags: argparse.Namespace) -> int:
    from cada_jax.gallery.index import check_request

    options = _options(flags)
    check_request(flags.db, flags.images, options)

    from cada_jax.common.console import say
    from cada_jax.gallery.index import index_pictures
    from cada_jax.retriever import load_model

    retriever = load_model(flags.model)
    if retriever.note:
        say(f"note: {retriever.note}")
    # Watched before it is looked through, so that nothing is missed in between.
    changes = _changes(flags) if flags.watch else ()
    report = index_pictures(flags.db, flags.images, retriever, options)
    _print(flags, report, options)
    options = dataclasses.replace(options, reindex=False)
    for _ in changes:
        if flags.detect:
            options = dataclasses.replace(_options(flags), reindex=False)
        report = index_pictures(flags.db, flags.images, retriever, options)
        if report.encoded or report.moved or report.removed:
            _print(flags, report, options)
    return DONE if report.pictures else EMPTY


def _changes(flags: argparse.Namespace) -> "Iterator[object]":
    """Watches from now on; what it gives yields when something has changed and then rested."""
    import watchfiles

    from cada_jax.common.files import absolute
    from cada_jax.gallery.scan import check_roots

    own = absolute(flags.db)
    changes = watchfiles.watch(
        *check_roots(flags.images),
        watch_filter=lambda change, path: not path.startswith(own),
        rust_timeout=1000,
        yield_on_timeout=True,
        raise_interrupt=True,
    )
    next(changes)
    return filter(None, changes)


def _print(flags: argparse.Namespace, report: "Report", options: "IndexOptions") -> None:
    from cada_jax.gallery.printable import printable
    from cada_jax.gallery.scan import HEIC_ADVICE

    if flags.json:
        listed = {
            name: [problem._asdict() for problem in getattr(report, name)]
            for name in ("unreadable", "refused")
        }
        print(json.dumps(dataclasses.asdict(report) | listed), flush=True)
        return
    for name, listed in (("unreadable", report.unreadable), ("refused box", report.refused)):
        for problem in listed[:SHOWN]:
            print(f"{name}: {printable(problem.path)}: {printable(problem.reason)}")
        if more := len(listed) - SHOWN:
            print(f"... and {more} more" if more > 0 else "", end="\n" if more > 0 else "")
    counts = ", ".join(
        f"{getattr(report, name)} {name}"
        for name in ("new", "changed", "moved", "unchanged", "removed")
    )
    print(f"files: {counts}, {len(report.unreadable)} unreadable")
    left_out = [f"{count} {kind or 'without an ending'}" for kind, count in report.left_out.items()]
    if "HEIC" in report.left_out:
        left_out.append(HEIC_ADVICE)
    for count, text in (
        (report.without_box, "scenes without a box"),
        (report.forgotten, "that were forgotten (--include_forgotten)"),
    ):
        left_out += [f"{count} {text}"] * bool(count)
    if left_out:
        print(f"left out: {printable(', '.join(left_out))}")
    if report.missing:
        print(
            f"{report.missing} pictures are kept although their files are missing: that is more "
            "than half, or a whole folder. If they are really gone: --remove_missing"
        )
    if options.boxes and (unmatched := options.boxes.unmatched()):
        print(f"{len(unmatched)} files of --boxes are not there, as {printable(unmatched[0])}")
    print(
        f"{report.pictures} pictures in {flags.db}; encoded {report.encoded} in "
        f"{report.seconds:.1f} s, {report.images_per_second:.1f} images/s",
        flush=True,
    )
