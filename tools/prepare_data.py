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

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported below

from ml_collections import ConfigDict  # noqa: E402
from tqdm import tqdm  # noqa: E402

from cada_jax.data.datasets.published import (  # noqa: E402
    Layout,
    Source,
    list_problems,
    read_images,
    read_source,
)
from cada_jax.data.features import BERT_VOCABULARY, CaptionEncoder, caption_config  # noqa: E402
from cada_jax.data.prepare import (  # noqa: E402
    PUBLISHED,
    data_folder,
    hide_accelerators,
    is_prepared,
    make_builder,
    write_records,
)
from cada_jax.errors import UsageError  # noqa: E402
from cada_jax.text.attributes import TAG_UNITS, TAGGERS  # noqa: E402

COLOURS = (31, 32, 33, 34, 35, 36)  # of an ANSI terminal, in turn


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Returns the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", required=True, choices=sorted(PUBLISHED))
    add("--source", required=True, type=Path, help="the published folder, or its parent")
    add("--data_dir", help="where to write (default: $CADA_DATA_DIR or ~/cada_data)")
    add("--vocab", help=f"vocabulary file or hub name (default: {BERT_VOCABULARY})")
    add("--max_length", type=int, default=73, help="tokens of a caption (default: 73)")
    add("--tagger", default="pattern", choices=TAGGERS)
    add("--tag_unit", default="word", choices=TAG_UNITS)
    add("--check", action="store_true", help="list every problem of the source, write nothing")
    add("--show", type=int, metavar="N", help="print N captions, phrases marked; write nothing")
    return parser.parse_args(argv)


def progress_bar(images, number: int, split: str):
    """Passes images on, drawing a bar on stderr."""
    return tqdm(images, total=number, desc=split, unit=" images", mininterval=0.5)


def check(layout: Layout, source: Source) -> list[str]:
    """Returns all problems of a source, those of its images' contents included."""
    problems = list_problems(source)
    there = [entry for entry in source.entries if source.image_file(entry)]
    images = progress_bar(read_images(source, there), len(there), f"checking {layout.title}")
    return problems + [problem for _, _, problem in images if problem]


def count_table(layout: Layout, source: Source) -> str:
    """Returns ids, images and captions of each split beside the published numbers."""
    lines = [f"{layout.title:12} {'ids':>15} {'images':>15} {'captions':>15}  (published)"]
    different = False
    for split, published in layout.splits.items():
        entries = [entry for entry in source.entries if entry.split == split]
        ids = len({entry.pid for entry in entries})
        counts = (ids, len(entries), sum(len(entry.captions) for entry in entries))
        cells = [f"{n} ({p})" for n, p in zip(counts, published, strict=True)]
        different |= counts != published
        mark = "" if counts == published else "  differs"
        lines.append(f"{split:12} " + " ".join(f"{cell:>15}" for cell in cells) + mark)
    if different:
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


def prepare(arguments: argparse.Namespace, layout: Layout, source: Source) -> None:
    """Writes the records and prints the table of counts."""
    data = {key: getattr(arguments, key) for key in ("data_dir", "vocab", "max_length")}
    data |= {"name": arguments.dataset, "variant": None}
    data |= {"tagger": arguments.tagger, "tag_unit": arguments.tag_unit}
    config = ConfigDict({"data": data}, convert_dict=True)
    builder = make_builder(config)
    if is_prepared(builder):
        print(f"Already prepared: {builder.data_dir} (to do it again, remove that folder)")
    else:
        builder.progress = progress_bar
        write_records(builder, arguments.source)
        print(f"Prepared {builder.data_dir}")
    print(count_table(layout, source))
    name = builder.builder_config.name
    if name != caption_config().name:
        print(
            f"Train on it with --config.data.data_dir={data_folder(config)} "
            f"--config.data.variant={name}"
        )


def main(argv: list[str] | None = None) -> int:
    """Runs the tool; returns the exit status."""
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    hide_accelerators()
    layout = PUBLISHED[arguments.dataset].LAYOUT
    try:
        source = read_source(layout, arguments.source)
        if arguments.check:
            problems = check(layout, source)
            print("\n".join(problems + [count_table(layout, source)]))
            print(f"{len(problems)} problems in {source.annotation}")
            return 1 if problems else 0
        if arguments.show:
            settings = (arguments.vocab, arguments.max_length, arguments.tagger, arguments.tag_unit)
            show(caption_config(*settings).encoder(), source, arguments.show)
        else:
            prepare(arguments, layout, source)
    except UsageError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
