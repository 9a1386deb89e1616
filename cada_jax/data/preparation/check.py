"""What a source folder is like: its counts, and what makes results better than they are."""

import collections
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from cada_jax.common.errors import shown
from cada_jax.data.preparation.source import SPLITS, Entry, Source
from cada_jax.text.tokenizer import clean_caption, load_tokenizer, split_words

if TYPE_CHECKING:
    from cada_jax.data.preparation.features import CaptionConfig

ENGLISH = 2 / 3  # least share of an English caption's words that are in the tagger's lexicon
_SHOWN = 3  # examples of one kind


def count_table(source: Source) -> str:
    """Returns persons, images and captions of each split, beside the published numbers."""
    published = source.published
    heads = ("persons", "images", "captions")
    lines = [" ".join([f"{'split':12}", *(f"{head:>15}" for head in heads)])]
    lines[0] += "  (published)" if published else ""
    for split in published or SPLITS:
        counts = source.counts(split)
        cells = [str(n) for n in counts]
        if published:
            cells = [f"{n} ({p})" for n, p in zip(counts, published[split], strict=True)]
        mark = "  differs" if published and counts != published[split] else ""
        lines.append(f"{split:12} " + " ".join(f"{cell:>15}" for cell in cells) + mark)
    if published and not source.is_as_published:
        lines.append("WARNING: the numbers differ from the published ones; so may results")
    return "\n".join(lines)


def notes(source: Source, digests: Mapping[str, bytes] | None = None) -> Iterator[str]:
    """Yields a line on everything that is no error and still may mislead.

    Args:
      digests: path -> of its bytes, of every file that was read.
    """
    yield from source.notes
    authors = [p for p in source.problems if p not in source.blocking]
    if authors:
        yield f"as published, {authors[0].text}; {len(authors)} such in all"
    entries = source.entries
    alone = [e.image for e in entries if not e.captions]
    yield from _some("images without a caption, in the gallery only", alone)
    repeated = [e.image for e in entries if len({*e.captions}) < len(e.captions)]
    yield from _some("images that have one caption twice, kept", repeated)
    if digests:
        same = _meanings(entries, lambda e: [digests[e.path]] if e.path in digests else [])
        across = [es for es in same.values() if len({e.split for e in es}) > 1]
        names = [" = ".join(e.image for e in es[:3]) for es in across]
        yield from _some("files with equal bytes in several splits", names)
    texts = _meanings(entries, lambda e: map(clean_caption, {*e.captions}))
    many = [t for t, es in texts.items() if len({e.pid for e in es}) > 1]
    yield from _some("captions of several persons, of whom one counts as right", many)
    tested = {t for t, es in texts.items() if {"train", "test"} <= {e.split for e in es}}
    yield from _some("captions in train and in test", sorted(tested))
    yield from _some("captions that are no English", filter(_is_foreign, texts))


def cut_captions(source: Source, config: "CaptionConfig") -> Iterator[str]:
    """Yields a line on captions of more than `config.max_length` tokens, if there are any."""
    split, room = load_tokenizer(config.vocab).split, config.max_length - 2  # [CLS] and [SEP]
    captions = [caption for entry in source.entries for caption in entry.captions]
    cut = sum(len(split(clean_caption(caption))[0]) > room for caption in captions)
    if cut:
        share = f"{cut:,} of {len(captions):,} captions ({100 * cut / len(captions):.1f} %)"
        yield f"{share} exceed --max_length={config.max_length} tokens and lose their end"


def _some(what: str, examples: Iterable[str]) -> Iterator[str]:
    examples = list(examples)
    if examples:
        first = ", ".join(map(shown, examples[:_SHOWN]))
        yield f"{what}: {len(examples)}, {first}{' ...' if len(examples) > _SHOWN else ''}"


def _meanings(entries: Iterable[Entry], of) -> dict:
    """Entries by what `of(entry)` yields."""
    found = collections.defaultdict(list)
    for entry in entries:
        for value in of(entry):
            found[value].append(entry)
    return found


def _is_foreign(text: str) -> bool:
    """Whether a caption is in another language, by the words that the tagger knows."""
    from textblob.en import parser

    words = [word for word in split_words(text) if word[0].isalpha()]
    return sum(word in parser.lexicon for word in words) < ENGLISH * len(words)
