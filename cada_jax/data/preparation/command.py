"""Prepares a data set: cleans, tokenizes and tags its captions, once, into TFRecords.

python -m cada_jax prepare --dataset=rstp --source=/path/to/RSTPReid --data_dir=OUT
python -m cada_jax prepare --dataset=rstp --source=/path/to/RSTPReid --check
python -m cada_jax prepare --dataset=rstp --source=/path/to/RSTPReid --show=20
python -m cada_jax prepare --dataset=folder --source=PHOTOS --captions=LIST.csv

A list of one's own is CSV, TSV, JSON or JSON lines with the columns image (a path below --source)
and caption, and if wanted id (the person) and split (train, val or test; drawn by person where it
is missing).

Exit status: 0 done, 1 --check found problems, 2 wrong usage, 130 stopped by Ctrl-C.
"""

import argparse
import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cada_jax.common.command_line import Flags, run_command
from cada_jax.common.errors import UsageError, needs_extra
from cada_jax.common.native_stderr import native_stderr_muted
from cada_jax.config.fields import BY_NAME

# What takes long to import is imported in functions: --help answers at once, and worker processes,
# which import this file again, start fast.
if TYPE_CHECKING:
    from cada_jax.data.preparation.source import Source
    from cada_jax.text.attribute_phrases import CaptionEncoder

COLOURS = (31, 32, 33, 34, 35, 36)  # of an ANSI terminal, in turn


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Returns the flags; a mistake in them ends the program with one line."""
    parser = Flags("cada_jax prepare", __doc__)
    add = parser.add_argument
    sets = [name for name in BY_NAME["data.name"].kind.words if name != "synthetic"]
    add("--dataset", required=True, choices=sets)
    add("--source", required=True, help="the published folder, or its parent; or one's own images")
    add("--captions", help="of --dataset=folder: the list (default: captions.csv in --source)")
    add("--split_seed", type=int, default=0, help="of splits that are drawn (default: 0)")
    add("--data_dir", help="where to write (default: $CADA_DATA_DIR or ~/cada_data)")
    add("--vocab", help="vocabulary file or hub name (bert-base-uncased, which is downloaded once)")
    add("--max_length", type=int, default=73, help="tokens of a caption (default: 73)")
    for name in ("tagger", "tag_unit"):
        field = BY_NAME[f"data.{name}"]
        add(f"--{name}", default=field.default, choices=field.kind.words, help=field.meaning)
    add("--workers", type=int, help="processes (default: by cores; 0: none besides this one)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--check", action="store_true", help="say what the source is like, write nothing"
    )
    instead.add_argument(
        "--show", type=int, metavar="N", help="print N captions, phrases marked; write nothing"
    )
    arguments = parser.parse_args(argv)
    for flag in ("source", "data_dir", "vocab", "captions"):
        if getattr(arguments, flag) == "":  # what an unset shell variable gives
            parser.error(f"--{flag} is empty")
    if arguments.captions and arguments.dataset != "folder":
        parser.error(f"--captions is of --dataset=folder; {arguments.dataset} has its own list")
    return arguments


def read(arguments: argparse.Namespace) -> "Source":
    """Reads the list that the flags name."""
    from cada_jax.data.preparation.captions_file import read_own
    from cada_jax.data.preparation.source import read_source
    from cada_jax.data.registry import FOLDERS

    if arguments.dataset == "folder":
        captions = arguments.captions or Path(arguments.source, "captions.csv")
        return read_own(arguments.source, captions, arguments.split_seed)
    return read_source(FOLDERS[arguments.dataset].LAYOUT, arguments.source)


def check(source: "Source", workers: int | None) -> int:
    """Prints all that is wrong or odd, after reading every image; returns the exit status."""
    from cada_jax.common.console import progress_bar
    from cada_jax.data.preparation.check import count_table, notes
    from cada_jax.data.preparation.reader import read_all, worker_count
    from cada_jax.data.preparation.source import Problem, list_briefly

    entries = source.entries
    workers = worker_count(len(entries)) if workers is None else workers
    images = list(progress_bar(read_all(entries, None, workers), len(entries), "checking"))
    kind = "images that cannot be decoded"
    problems = [*source.problems, *(Problem(kind, r.problem) for r in images if r.problem)]
    pairs = zip(entries, images, strict=True)
    digests = {entry.path: read.digest for entry, read in pairs if not read.problem}
    print(count_table(source))
    for note in notes(source, digests):
        print(f"NOTE: {note}")
    print(f"{len(problems)} problems in {source.annotation}{':' if problems else ''}")
    print("".join(f"{line}\n" for line in list_briefly(problems)), end="")
    return 1 if problems else 0


def prepare(arguments: argparse.Namespace, source: "Source") -> int:
    """Writes the records and prints the table of counts; returns the exit status."""
    from ml_collections import ConfigDict

    from cada_jax.common.console import progress_bar
    from cada_jax.data import registry
    from cada_jax.data.preparation.check import count_table, cut_captions, notes
    from cada_jax.data.preparation.features import caption_config
    from cada_jax.data.preparation.prepared_folder import (
        check_files,
        is_prepared,
        read_digests,
        write_records,
    )
    from cada_jax.data.preparation.reader import worker_count

    flags = ("data_dir", "vocab", "max_length", "tagger", "tag_unit")
    data = {flag: getattr(arguments, flag) for flag in flags}
    config = ConfigDict({"data": data | {"name": arguments.dataset, "variant": None}})
    builder = registry.make_builder(config)
    if is_prepared(builder):
        with registry.undamaged(config, builder.data_dir):
            check_files(builder.data_dir)
        if read_digests(builder.data_dir)[1] != source.digest:
            raise UsageError(
                f"{builder.data_dir} was prepared from another list than {source.annotation} is "
                "now. Remove that folder to prepare it again, or choose another --data_dir"
            )
        print(f"Already prepared: {builder.data_dir} (to do it again, remove that folder)")
    else:
        builder.source, builder.progress = source, progress_bar
        workers = arguments.workers
        builder.workers = worker_count(len(source.entries)) if workers is None else workers
        write_records(builder, arguments.source)
        print(f"Prepared {builder.data_dir}")
    print(count_table(source))
    for note in [*notes(source), *cut_captions(source, builder.captions_config)]:
        print(f"NOTE: {note}")
    name = builder.builder_config.name
    where = f"--config.data.data_dir={registry.data_folder(config)}"
    variant = "" if name == caption_config().name else f" --config.data.variant={name}"
    print(f"Train on it with --config=configs/{arguments.dataset}.py {where}{variant}")
    return 0


def mark_phrases(encoder: "CaptionEncoder", caption: str, image: str, colour: bool) -> str:
    """Returns a caption as its tokens read, its attribute phrases coloured or in brackets."""
    encoded = encoder.encode([caption], image)[0]
    tokens = encoder.tokenizer.tokens(encoded["token_ids"])
    inside = slice(1, tokens.index("[SEP]"))
    pieces = zip(tokens[inside], encoded["phrase_ids"][inside], strict=True)
    runs = []
    for phrase, run in itertools.groupby(pieces, key=lambda piece: int(piece[1])):
        text = " ".join(token for token, _ in run).replace(" ##", "")
        start, end = (f"\033[{COLOURS[phrase % 6]}m", "\033[0m") if colour else ("[", "]")
        runs.append(start + text + end if phrase else text)
    return " ".join(runs)


def show(encoder: "CaptionEncoder", source: "Source", number: int) -> int:
    """Prints captions spread over the source, so that a person sees what ARA will mask."""
    captions = [(text, e.image) for e in source.entries for text in e.captions]
    colour = sys.stdout is not None and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for text, image in captions[:: max(1, len(captions) // number)][:number]:
        print(mark_phrases(encoder, text, image, colour))
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Does what the flags say; returns the exit status."""
    with native_stderr_muted(), needs_extra("train"):
        from cada_jax.data import registry

        registry.hide_accelerators()
    from cada_jax.data.preparation.features import caption_config
    from cada_jax.text.attribute_phrases import CaptionEncoder
    from cada_jax.text.tokenizer import load_tokenizer

    if arguments.check:
        return check(read(arguments), arguments.workers)
    # Wrong flags are told before a long list is read.
    settings = (arguments.vocab, arguments.max_length, arguments.tagger, arguments.tag_unit)
    config = caption_config(*settings)
    source = read(arguments)
    if arguments.show:
        encoder = CaptionEncoder(load_tokenizer(config.vocab), *settings[1:])
        return show(encoder, source, arguments.show)
    return prepare(arguments, source)


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status, see `common.command_line`."""

    def work() -> int:
        arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # names that it cannot print
        return run(arguments)

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
