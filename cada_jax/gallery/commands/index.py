r"""Indexes folders of pictures, or brings a gallery up to date with them.

    python -m cada_jax index --model=pretrained:synthetic --images=photos --db=people.db
    python -m cada_jax index --model=runs/rstp/model --images=/archive --db=http://host:19530 \
        --token_store=gs://bucket/tokens
    python -m cada_jax index --model=DIR --images=scenes --boxes=detections.json --db=people.db

The same command again reads new and changed files, and removes the records of deleted ones. A run
that was killed is continued. Files that cannot be read are listed, counted and left out.

The exit status is 0 when the gallery is up to date, 1 if it holds no picture afterwards, 2 if
indexing could not be done.
"""

import argparse
import dataclasses
import json
import os
from typing import TYPE_CHECKING

from cada_jax.common.command_line import DONE, Flags, run_command

if TYPE_CHECKING:
    from cada_jax.gallery.index_options import IndexOptions, Report

EMPTY = 1
SHOWN = 20  # unreadable files that are listed; all are in the gallery's unreadable.jsonl
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
    add("--db", required=True, help="the gallery: a folder, or http://HOST:PORT[#COLLECTION]")
    made = parser.add_argument_group("settled when the gallery is made").add_argument
    made("--tokens", choices=TOKENS, help="image tokens for re-ranking (store)")
    made("--token_store", help="folder or bucket of the tokens (in the gallery)")
    made("--vector_index", choices=INDEXES, help="Milvus's; FLAT is exact (FLAT)")
    made("--shards", type=int, help="parts of the collection on a Milvus server (1)")
    add("--boxes", default="", metavar="FILE", help="persons' boxes in COCO's detection format")
    add("--boxes_images", default="", metavar="FILE", help="COCO's list of images for them")
    add("--min_box_score", type=float, default=0.0, help="leave out boxes that score less (0)")
    pattern = "the camera in a path: a regular expression with one group (default: EXIF)"
    add("--camera_pattern", default="", metavar="REGEX", help=pattern)
    add("--reindex", action="store_true", help="drop the gallery and index again")
    missing = "remove records although more than half of the files are missing"
    add("--remove_missing", action="store_true", help=missing)
    add("--include_forgotten", action="store_true", help="index what was forgotten, too")
    add("--batch_size", type=int, default=0, help="pictures encoded at once (chosen)")
    add("--json", action="store_true", help="print the report as one JSON object")
    return parser.parse_args(argv)


def _options(flags: argparse.Namespace) -> "IndexOptions":
    from cada_jax.common.console import progress_bar
    from cada_jax.common.errors import UsageError
    from cada_jax.gallery.boxes import read_boxes
    from cada_jax.gallery.index_options import IndexOptions
    from cada_jax.gallery.photo import compile_camera_pattern

    if flags.boxes_images and not flags.boxes:
        raise UsageError("--boxes_images names the pictures of boxes: expected --boxes beside it")
    if not 0 <= flags.min_box_score <= 1:
        raise UsageError(f"--min_box_score={flags.min_box_score}: expected 0 to 1")
    if not 0 <= flags.batch_size <= 4096:
        raise UsageError(f"--batch_size={flags.batch_size}: expected 1 to 4096, or 0 to choose")
    if flags.shards is not None and not 1 <= flags.shards <= 64:
        raise UsageError(f"--shards={flags.shards}: expected 1 to 64")
    if flags.camera_pattern:
        compile_camera_pattern(flags.camera_pattern)
    boxes = None
    if flags.boxes:
        boxes = read_boxes(flags.boxes, flags.min_box_score, images_path=flags.boxes_images or None)
    shipped = flags.model.startswith("pretrained:")
    return IndexOptions(
        tokens=flags.tokens,
        token_store=flags.token_store,
        vector_index=flags.vector_index,
        shards=flags.shards,
        boxes=boxes,
        camera_pattern=flags.camera_pattern,
        reindex=flags.reindex,
        remove_missing=flags.remove_missing,
        include_forgotten=flags.include_forgotten,
        batch_size=flags.batch_size,
        model_path=flags.model if shipped else os.path.abspath(os.path.expanduser(flags.model)),
        progress=progress_bar,
    )


def _index(flags: argparse.Namespace) -> int:
    from cada_jax.gallery.place import check_folder, place_of
    from cada_jax.gallery.scan import check_roots

    place = place_of(flags.db)
    if place.folder:
        check_folder(place.folder)
    check_roots(flags.images)
    options = _options(flags)

    from cada_jax.common.compilation_cache import enable_compilation_cache
    from cada_jax.gallery.indexing import index
    from cada_jax.retriever import load_model

    enable_compilation_cache()
    report = index(flags.db, flags.images, load_model(flags.model), options)
    _print(flags, report, options)
    return DONE if report.pictures else EMPTY


def _print(flags: argparse.Namespace, report: "Report", options: "IndexOptions") -> None:
    from cada_jax.gallery.results.printable import printable

    if flags.json:
        unreadable = [problem._asdict() for problem in report.unreadable]
        print(json.dumps(dataclasses.asdict(report) | {"unreadable": unreadable}))
        return
    for problem in report.unreadable[:SHOWN]:
        print(f"unreadable: {printable(problem.path)}: {printable(problem.reason)}")
    if more := len(report.unreadable) - SHOWN:
        if more > 0:
            print(f"... and {more} more")
    counts = ", ".join(
        f"{getattr(report, name)} {name}"
        for name in ("new", "changed", "moved", "unchanged", "removed")
    )
    print(f"{counts}, {len(report.unreadable)} unreadable")
    if report.forgotten:
        print(f"{report.forgotten} left out: they were forgotten (--include_forgotten)")
    if report.kept_missing:
        print(
            f"{report.kept_missing} pictures are missing, more than half: nothing of them was "
            "removed. If they are really gone: --remove_missing"
        )
    if options.boxes and (unmatched := options.boxes.unmatched()):
        print(f"{len(unmatched)} files of --boxes are not there, as {printable(unmatched[0])}")
    print(
        f"{report.pictures} pictures in {flags.db}; encoded {report.encoded} in "
        f"{report.seconds:.1f} s, {report.images_per_second:.1f} images/s"
    )
