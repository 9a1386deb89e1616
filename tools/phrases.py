"""How well attribute phrases are found in descriptions as people write them, and how fast.

    python -m tools.phrases [--tagger=grammar --tagger=pattern] [--mistakes]

The fragments of tests/text/phrases are marked by hand, in two halves: rules were made from
`development` alone. A phrase counts where exactly its words were found. Precision is the share of
found phrases that are marked, recall the share of marked ones that are found, in percent. Speed is
that of `CaptionEncoder` on one core: cleaning, WordPieces, tags and phrases.
"""

import collections
import itertools
import pathlib
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cada_jax.data.datasets.synthetic.people import DEMO, caption_texts
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from cada_jax.text.attribute_phrases import CaptionEncoder, find_phrases
from cada_jax.text.taggers import TAGGERS, Tagger, make_tagger
from cada_jax.text.tokenizer import MARKS, Tokenizer, clean_caption, split_words
from tools.arguments import Parser, command

FOLDER = pathlib.Path(__file__).parents[1] / "tests" / "text" / "phrases"
HALVES = ("development", "held_out")
CAPTIONS = 4000
Spans = set[tuple[int, int]]  # first word, and the one behind the last


class Fragment(NamedTuple):
    """kind: what it is an example of; text: without brackets; marked: its phrases."""

    kind: str
    text: str
    marked: Spans


class Score(NamedTuple):
    """Counts of phrases."""

    marked: int = 0
    found: int = 0
    right: int = 0

    def plus(self, other: "Score") -> "Score":
        """The counts of both."""
        return Score(*map(sum, zip(self, other, strict=True)))

    def __str__(self) -> str:
        precision, recall = self.right / max(self.found, 1), self.right / max(self.marked, 1)
        return f"{100 * precision:6.1f} {100 * recall:6.1f}"


def read_fragments(half: str) -> Iterator[Fragment]:
    """The fragments of one of `HALVES`."""
    kind = ""
    for line in (FOLDER / f"{half}.txt").read_text().splitlines():
        if line.startswith("=="):
            kind = line.strip("= ").partition(":")[0]
        elif line and line[0] != "#":
            yield Fragment(kind, re.sub(r"[][]", "", line), _marked(line))


def _marked(line: str) -> Spans:
    spans, words, start = set(), 0, 0
    for part in re.findall(r"\[|\]|[^][]+", line):
        if part == "[":
            start = words
        elif part == "]":
            spans.add((start, words))
        else:
            words += sum(word not in MARKS for word in split_words(part))
    return spans


def found_in(text: str, tagger: Tagger) -> Spans:
    """The phrases of a text."""
    spans, place = set(), 0
    for number, run in itertools.groupby(find_phrases(text, tagger)[1]):
        end = place + len(list(run))
        if number:
            spans.add((place, end))
        place = end
    return spans


def measure(half: str, tagger: Tagger) -> tuple[dict[str, Score], list[str]]:
    """The scores by kind and "all", and the fragments read otherwise than marked."""
    scores, mistakes = collections.defaultdict(Score), []
    for fragment in read_fragments(half):
        found = found_in(fragment.text, tagger)
        score = Score(len(fragment.marked), len(found), len(found & fragment.marked))
        for kind in (fragment.kind, "all"):
            scores[kind] = scores[kind].plus(score)
        if found != fragment.marked:
            words = split_words(clean_caption(fragment.text))
            read = ", ".join(" ".join(words[a:b]) for a, b in sorted(found))
            mistakes.append(f"{fragment.kind}: {fragment.text!r} read as {read}")
    return dict(scores), mistakes


def captions_per_second(tagger: str) -> float:
    """Of a `CaptionEncoder`, by CPU time, once it has seen every word."""
    captions = list(itertools.islice(caption_texts(DEMO, "train"), CAPTIONS))
    encoder = CaptionEncoder(Tokenizer(VOCAB_PATH), 49, tagger)
    encoder.encode(captions, "")
    times = []
    for _ in range(3):
        start = time.process_time()
        encoder.encode(captions, "")
        times.append(time.process_time() - start)
    return CAPTIONS / min(times)


def run(argv: Sequence[str] | None) -> int:
    """Prints the tables; returns the exit code."""
    parser = Parser("tools.phrases", __doc__)
    parser.add_argument("--tagger", action="append", choices=TAGGERS)
    parser.add_argument("--mistakes", action="store_true", help="list what was read otherwise")
    flags = parser.flags(argv)
    names = flags.tagger or ["grammar", "pattern"]
    taggers = {name: make_tagger(name) for name in names}
    for half in HALVES:
        measured = {name: measure(half, tagger) for name, tagger in taggers.items()}
        heads = "".join(f"{name:>10} P      R" for name in names)
        print(f"{half:14} phrases{heads}")
        scores = [scores for scores, _ in measured.values()]
        for kind, score in sorted(scores[0].items(), key=lambda item: item[0] == "all"):
            cells = "".join(f"     {of_tagger[kind]}" for of_tagger in scores)
            print(f"{kind:14} {score.marked:7}{cells}")
        if flags.mistakes:
            for name, (_, mistakes) in measured.items():
                print("\n".join([f"\n{name}:", *mistakes]))
        print()
    for name in names:
        print(f"{name}: {captions_per_second(name):,.0f} captions/s")
    return 0


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
