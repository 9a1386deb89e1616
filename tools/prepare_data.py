"""Prepares a published data set: cleans, tokenizes and tags its captions, once, into TFRecords.

python tools/prepare_data.py --dataset=rstp --source=/path/to/RSTPReid --data_dir=OUT
python tools/prepare_data.py --dataset=rstp --source=/path/to/RSTPReid --check
python tools/prepare_data.py --dataset=rstp --source=/path/to/RSTPReid --show=20
"""

import argparse
import itertools
import os
import sys
from pathlib import Path

from tqdm import tqdm

from cada_jax.common.errors import UsageError
from cada_jax.data.preparation.annotations import (
    Source,
    list_problems,
    numbering_problems,
    read_source,
)
from cada_jax.data.preparation.reader import read_all, worker_count
from cada_jax.text.attribute_phrases import TAG_UNITS, TAGGERS, CaptionEncoder

# Worker processes import this file again: what imports TensorFlow is imported in functions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

DATASETS = ("cuhk", "icfg", "rstp")
COLOURS = (31, 32, 33, 34, 35, 36)  # of an ANSI terminal, in turn


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Returns the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", required=True, choices=DATASETS)
    add("--source", required=True, type=Path, help="the published folder, or its parent")
    add("--data_dir", help="where to write (default: $CADA_DATA_DIR or ~/cada_data)")
    add("--vocab", help="vocabulary file or hub name (default: bert-base-uncased)")
    add("--max_length", type=int, default=73, help="tokens of a caption (default: 73)")
    add("--tagger", default="pattern", choices=TAGGERS)
    add("--tag_unit", default="word", choices=TAG_UNITS)
    add("--workers", type=int, help="processes (default: by cores; 0: none besides this one)")
    add("--check", action="store_true", help="list every problem of the source, write nothing")
    add("--show", type=int, metavar="N", help="print N captions, phrases marked; write nothing")
    return parser.parse_args(argv)


def progress_bar(images, number: int, split: str):
    """Passes images on, drawing a bar on stderr."""
    return tqdm(images, total=number, desc=split, unit=" images", mininterval=0.5)


def check(source: Source, workers: int | None = None) -> list[str]:
    """Returns all problems of a source, those of its images' contents included."""
    problems = list_problems(source)
    jobs = [job for job in map(source.job, source.entries) if job.path]
    if workers is None:
        workers = worker_count(len(jobs))
    read = read_all(jobs, None, workers)
    images = progress_bar(read, len(jobs), f"checking {source.layout.title}")
    return problems + [image.problem for image in images if image.problem]


def count_table(source: Source) -> str:
    """Returns ids, images and captions of each split beside the published numbers."""
    title = source.layout.title
    lines = [f"{title:12} {'ids':>15} {'images':>15} {'captions':>15}  (published)"]
    for split, published in source.layout.splits.items():
        counts = source.counts(split)
        cells = [f"{n} ({p})" for n, p in zip(counts, published, strict=True)]
        mark = "" if counts == published else "  differs"
        lines.append(f"{split:12} " + " ".join(f"{cell:>15}" for cell in cells) + mark)
    if not source.is_as_published:
        lines.append("WARNING: the numbers differ from the published ones; so may results")
    return "\n".join(lines)


def mark_phrases(encoder: CaptionEncoder, caption: str, image: str, colour: bool) -> str:
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


def show(encoder: CaptionEncoder, source: Source, number: int) -> None:
    """Prints captions spread over the source, so that a person sees what ARA will mask."""
    captions = [(text, entry.image) for entry in source.entries for text in entry.captions]
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for text, image in captions[:: max(1, len(captions) // number)][:number]:
        print(mark_phrases(encoder, text, image, colour))


def prepare(arguments: argparse.Namespace, source: Source) -> None:
    """Writes the records and prints the table of counts."""
    from ml_collections import ConfigDict

    from cada_jax.data.preparation.features import caption_config
    from cada_jax.data.preparation.prepared_folder import is_prepared, write_records
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
    numbering = numbering_problems(source)
    if numbering:  # of the published file itself, or it would not have been prepared
        print(f"NOTE: as published, {numbering[0]}; {len(numbering)} such in all")
    name = builder.builder_config.name
    if name != caption_config().name:
        print(
            f"Train on it with --config.data.data_dir={data_folder(config)} "
            f"--config.data.variant={name}"
        )


def run(arguments: argparse.Namespace) -> int:
    """Does what the flags say; returns the exit status."""
    from cada_jax.data.preparation.features import caption_config
    from cada_jax.data.registry import PUBLISHED

    source = read_source(PUBLISHED[arguments.dataset].LAYOUT, arguments.source)
    if arguments.check:
        problems = check(source, arguments.workers)
        print("\n".join(problems + [count_table(source)]))
        print(f"{len(problems)} problems in {source.annotation}")
        return 1 if problems else 0
    if arguments.show:
        settings = (arguments.vocab, arguments.max_length, arguments.tagger, arguments.tag_unit)
        show(caption_config(*settings).encoder(), source, arguments.show)
    else:
        prepare(arguments, source)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Runs the tool; returns the exit status."""
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    try:
        return run(arguments)
    except UsageError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "Stopped; nothing half-written is left. The same command starts again", file=sys.stderr
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
