"""Prepares a published data set: cleans, tokenizes and tags its captions, once, into TFRecords.

python -m cada_jax prepare --dataset=rstp --source=/path/to/RSTPReid --data_dir=OUT
python -m cada_jax prepare --dataset=rstp --source=/path/to/RSTPReid --check
python -m cada_jax prepare --dataset=rstp --source=/path/to/RSTPReid --show=20

Exit status: 0 done, 1 --check found problems, 2 wrong usage, 130 stopped by Ctrl-C.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from cada_jax.common.command_line import run_command
from cada_jax.common.errors import UsageError

# What takes long to import is imported in functions: --help answers at once, and worker processes,
# which import this file again, start fast.
if TYPE_CHECKING:
    from cada_jax.data.preparation.annotations import Source
    from cada_jax.data.preparation.reader import Job

DATASETS = ("cuhk", "icfg", "rstp")
TAGGERS = ("pattern", "nltk")  # of text.attribute_phrases, which takes long to import
TAG_UNITS = ("word", "wordpiece")


class Parser(argparse.ArgumentParser):
    """Wrong flags are a `UsageError`, one line."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError in place of printing the usage and leaving."""
        raise UsageError(f"{message} (python -m cada_jax prepare --help lists the flags)")


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Returns the flags.

    Raises:
      UsageError: an unknown flag or a wrong value.
    """
    parser = Parser(
        prog="python -m cada_jax prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", required=True, choices=DATASETS)
    add("--source", required=True, help="the published folder, or its parent")
    add("--data_dir", help="where to write (default: $CADA_DATA_DIR or ~/cada_data)")
    add("--vocab", help="vocabulary file or hub name (default: bert-base-uncased)")
    add("--max_length", type=int, default=73, help="tokens of a caption (default: 73)")
    add("--tagger", default="pattern", choices=TAGGERS)
    add("--tag_unit", default="word", choices=TAG_UNITS)
    add("--workers", type=int, help="processes (default: by cores; 0: none besides this one)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--check", action="store_true", help="list every problem of the source, write nothing"
    )
    instead.add_argument(
        "--show", type=int, metavar="N", help="print N captions, phrases marked; write nothing"
    )
    arguments = parser.parse_args(argv)
    if arguments.show is not None and arguments.show < 1:
        parser.error(f"--show is {arguments.show}, expected at least 1")
    if arguments.workers is not None and arguments.workers < 0:
        parser.error(f"--workers is {arguments.workers}, expected at least 0")
    for flag in ("source", "data_dir", "vocab"):
        if getattr(arguments, flag) == "":  # what an unset shell variable gives
            parser.error(f"--{flag} is empty")
    return arguments


def progress_bar(images: Iterable, number: int, split: str) -> Iterable:
    """Passes images on, drawing a bar on stderr."""
    from tqdm import tqdm

    return tqdm(images, total=number, desc=split, unit=" images", mininterval=0.5)


def image_problems(source: "Source", jobs: list["Job"], workers: int | None) -> list:
    """Returns the problems of the images' contents: each is decoded as in training."""
    from cada_jax.data.preparation.entries import Problem
    from cada_jax.data.preparation.reader import read_all, worker_count
    from cada_jax.data.preparation.tensorflow_check import tensorflow_problem

    if workers is None:
        workers = worker_count(len(jobs))
    images = progress_bar(
        read_all(jobs, None, workers), len(jobs), f"checking {source.layout.title}"
    )
    problems = []
    for job, read in zip(jobs, images, strict=True):
        text = read.problem
        if text is None and (of_tensorflow := tensorflow_problem(read.image)):
            text = f"{job.label} ({job.path}) {of_tensorflow}"
        if text:
            problems.append(Problem("images that cannot be decoded", text))
    return problems


def check(source: "Source", workers: int | None = None) -> list:
    """Returns all problems of a source, those of its images' contents included."""
    from cada_jax.data.preparation.annotations import list_problems

    jobs = [job for job in map(source.job, source.entries) if job.path]
    return list_problems(source) + image_problems(source, jobs, workers)


def count_table(source: "Source") -> str:
    """Returns ids, images and captions of each split beside the published numbers."""
    from cada_jax.data.preparation.annotations import repeated_captions

    title = source.layout.title
    lines = [f"{title:12} {'ids':>15} {'images':>15} {'captions':>15}  (published)"]
    for split, published in source.layout.splits.items():
        counts = source.counts(split)
        cells = [f"{n} ({p})" for n, p in zip(counts, published, strict=True)]
        mark = "" if counts == published else "  differs"
        lines.append(f"{split:12} " + " ".join(f"{cell:>15}" for cell in cells) + mark)
    if not source.is_as_published:
        lines.append("WARNING: the numbers differ from the published ones; so may results")
    repeated = repeated_captions(source)
    if repeated:
        lines.append(f"NOTE: {repeated} images have one caption twice; all captions are kept")
    return "\n".join(lines)


def prepare(arguments: argparse.Namespace, source: "Source") -> None:
    """Writes the records and prints the table of counts."""
    from ml_collections import ConfigDict

    from cada_jax.data.preparation.annotations import authors_problems
    from cada_jax.data.preparation.features import caption_config
    from cada_jax.data.preparation.prepared_folder import is_prepared, write_records
    from cada_jax.data.preparation.reader import worker_count
    from cada_jax.data.registry import data_folder, hide_accelerators, make_builder

    hide_accelerators()
    data = {key: getattr(arguments, key) for key in ("data_dir", "vocab", "max_length")}
    data |= {"name": arguments.dataset, "variant": None}
    data |= {"tagger": arguments.tagger, "tag_unit": arguments.tag_unit}
    config = ConfigDict({"data": data}, convert_dict=True)
    builder = make_builder(config)
    if is_prepared(builder):
        print(f"Already prepared: {builder.data_dir} (to do it again, remove that folder)")
    else:
        builder.progress = progress_bar
        workers = arguments.workers
        builder.workers = worker_count(len(source.entries)) if workers is None else workers
        write_records(builder, arguments.source)
        print(f"Prepared {builder.data_dir}")
    print(count_table(source))
    authors = authors_problems(source)
    if authors:  # of the published file itself, or it would not have been prepared
        print(f"NOTE: as published, {authors[0]}; {len(authors)} such in all")
    name = builder.builder_config.name
    if name != caption_config().name:
        print(
            f"Train on it with --config.data.data_dir={data_folder(config)} "
            f"--config.data.variant={name}"
        )


def run(arguments: argparse.Namespace) -> int:
    """Does what the flags say; returns the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from cada_jax.data.preparation.annotations import read_source
    from cada_jax.data.preparation.entries import list_problems_briefly
    from cada_jax.data.preparation.features import caption_config
    from cada_jax.data.preparation.show import show
    from cada_jax.data.registry import PUBLISHED

    settings = (arguments.vocab, arguments.max_length, arguments.tagger, arguments.tag_unit)
    if not arguments.check:
        caption_config(*settings)  # wrong flags are told before a long list is read
    source = read_source(PUBLISHED[arguments.dataset].LAYOUT, arguments.source)
    if arguments.check:
        problems = check(source, arguments.workers)
        print(count_table(source))
        print(f"{len(problems)} problems in {source.annotation}{':' if problems else ''}")
        for line in list_problems_briefly(problems):
            print(line)
        return 1 if problems else 0
    if arguments.show:
        show(caption_config(*settings).encoder(), source, arguments.show)
    else:
        prepare(arguments, source)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status, see `common.command_line`."""

    def work() -> int:
        arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # names that it cannot print
        try:
            return run(arguments)
        except KeyboardInterrupt:
            print("Nothing half-written is left. The same command starts again", file=sys.stderr)
            raise

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
