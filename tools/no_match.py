"""Where the line between a good match and none lies for a model, and what that line is worth.

    python -m tools.no_match --model=runs/demo/model [--dataset=synthetic/demo]
                             [--dataset=synthetic/crowd] [--precision=0.9] [--write]

On each set the persons of the test split, whom the model has not seen, are halved. Captions of a
half, and of generated people typed queries too, are asked twice: of all images of the half, and of
those alone that do not answer them. The first ten results of either are looked at. The captions of
one half of every set draw the line, the lowest at which that share of the results above it is
right; the other half judges it.

Columns, in percent: "precision" of the results above the line, "recall" of the right ones; "miss",
the queries with an answer that have no result above it; "false alarm", the queries without an
answer that have one; "places", the same among pictures without a person. --write puts the line into
the model's card.json, which searches read.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cada_jax.checkpoints.model import update_card
from cada_jax.common.compilation_cache import enable_compilation_cache
from cada_jax.common.console import say
from cada_jax.common.errors import UsageError
from cada_jax.data.datasets.synthetic import people
from cada_jax.data.datasets.synthetic.drawing import draw_place
from cada_jax.retrieval.encode import Queries
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.good_match import CARD_KEY, GoodMatch
from cada_jax.retriever import Retriever
from cada_jax.text.tokenizer import split_words
from tools.arguments import Parser, command
from tools.probing.subject import SEED, Subject, load_subject
from tools.probing.typed_queries import Typed, answers, score_nearest, type_queries

SHOWN, PLACES = 10, 200
COLUMNS = ("precision", "recall", "miss", "false alarm", "places")
CAPTIONS, TYPED = "captions", "typed queries"


class Results(NamedTuple):
    """The first results of Q queries.

    score: float [Q,n]; right: bool [Q,n]; answerable: bool [Q], whether the images that are asked
    have a right one.
    """

    score: np.ndarray
    right: np.ndarray
    answerable: np.ndarray


class Asked(NamedTuple):
    """What queries of one kind find.

    found: among the images of a half, then without the answers; places: among pictures without a
    person; words: of the shortest query.
    """

    found: Results
    places: Results
    words: int


def questions(subject: Subject, half: int, count: int) -> dict[str, list[Typed]]:
    """Queries about the persons of a half, by their kind."""
    split, truth = subject.split, subject.truth
    rng = np.random.default_rng(SEED + half)
    captions = rng.permutation(np.flatnonzero(split.caption_pids % 2 == half))[:count]
    if truth is None:  # photographs: of whom a caption is true besides its person, nobody knows
        return {CAPTIONS: [Typed(split.texts[i], {"pid": split.caption_pids[i]}) for i in captions]}
    world = people.VARIANTS[subject.retriever.config.data.variant or people.DEMO.name].world
    seen = [truth.shown[i] for i in np.flatnonzero(split.image_pids % 2 == half)]
    return {
        CAPTIONS: [Typed(split.texts[i], truth.stated[i]) for i in captions],
        TYPED: type_queries(seen, world.speech, count, SEED + half),
    }


def gallery_of(subject: Subject, half: int) -> tuple[EncodedImages, list[dict]]:
    """The images of a half, and what is true of each one's person."""
    gallery, truth = subject.gallery, subject.truth
    chosen = np.flatnonzero(subject.split.image_pids % 2 == half)
    pids = subject.split.image_pids[chosen]
    some = dataclasses.replace(
        gallery, embeddings=gallery.embeddings[chosen], tokens=gallery.tokens[chosen], pids=pids
    )
    return some, [{"pid": pid} if truth is None else truth.persons[int(pid)] for pid in pids]


def search(
    network: Retriever,
    queries: Queries,
    gallery: EncodedImages,
    right: np.ndarray,
    hidden: np.ndarray,
) -> Results:
    """The first `SHOWN` results of every query, ordered as a search orders them.

    Args:
      network: that encoded both.
      queries: Q of them.
      gallery: G images.
      right: bool [Q,G].
      hidden: bool [Q,G], images that a query is not asked of.
    """
    similarity = np.where(hidden, -2.0, queries.embeddings @ gallery.embeddings.T)
    right = right & ~hidden
    nearest, score = score_nearest(network, queries, gallery, similarity)
    order = np.argsort(-score, axis=1, kind="stable")[:, :SHOWN]
    shown = np.take_along_axis(nearest, order, axis=1)
    return Results(
        np.take_along_axis(score, order, axis=1),
        np.take_along_axis(right, shown, axis=1),
        np.asarray(right.any(axis=1)),
    )


def joined(parts: Sequence[Results]) -> Results:
    """All of them as one."""
    return Results(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def measure(subject: Subject, half: int, count: int) -> dict[str, Asked]:
    """What the queries of a half find, by their kind."""
    network = subject.retriever
    look = people.VARIANTS.get(network.config.data.variant or "", people.DEMO).world.look
    places = network.encode_images(
        [np.asarray(draw_place(np.random.default_rng((SEED, i)), look)) for i in range(PLACES)]
    )
    gallery, persons = gallery_of(subject, half)
    found = {}
    for kind, asked in questions(subject, half, count).items():
        encoded = network.encode_text([query.text for query in asked])
        right = answers(asked, persons)
        both = [search(network, encoded, gallery, right, x) for x in (np.zeros_like(right), right)]
        none = np.zeros((len(asked), PLACES), bool)
        words = min(len(split_words(query.text)) for query in asked)
        found[kind] = Asked(joined(both), search(network, encoded, places, none, none), words)
    return found


def draw_line(found: Results, precision: float) -> float:
    """The lowest line at which the results above it are right to that share; no result has it: inf.

    Args:
      found: what is looked at.
      precision: in (0,1].
    """
    values, right = found.score.ravel(), found.right.ravel()
    order = np.argsort(-values, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(share >= precision)
    return float(values[order][enough[-1]]) if len(enough) else float("inf")


def judge(found: Results, places: Results, line: float) -> dict[str, float]:
    """What a line is worth, in percent, by `COLUMNS`."""
    above = found.score >= line
    says = np.asarray(above.any(axis=1))
    figures = (
        found.right[above].mean() if above.any() else float("nan"),
        above[found.right].mean(),
        (~says[found.answerable]).mean(),
        says[~found.answerable].mean(),
        (places.score >= line).any(axis=1).mean(),
    )
    return dict(zip(COLUMNS, (100 * float(figure) for figure in figures), strict=True))


def run(argv: Sequence[str] | None) -> int:
    """Measures what the flags name; returns the exit code."""
    parser = Parser("tools.no_match", __doc__)
    parser.add_argument("--model", required=True, help="a folder, or NAME")
    parser.add_argument("--dataset", action="append", help="default: synthetic/demo, crowd")
    parser.add_argument("--data_dir", help="of prepared sets; $CADA_DATA_DIR or ~/cada_data")
    parser.add_argument("--queries", type=int, default=300, help="of a kind and half")
    parser.add_argument("--precision", type=float, default=0.9)
    parser.add_argument("--write", action="store_true", help="into the model's card.json")
    flags = parser.flags(argv)
    enable_compilation_cache()
    sets = flags.dataset or ["synthetic/demo", "synthetic/crowd"]
    drawing, judging = [], {}
    for dataset in sets:
        say(f"Asking {flags.model} on {dataset}.")
        subject = load_subject(flags.model, dataset, "test", 1, flags.data_dir)
        drawing.append(measure(subject, 0, flags.queries)[CAPTIONS])
        judging[dataset] = measure(subject, 1, flags.queries)
    value = draw_line(joined([asked.found for asked in drawing]), flags.precision)
    if value == float("inf"):
        raise UsageError(f"--precision={flags.precision}: no line has it; ask for less")
    print(f"| set | query | {' | '.join(COLUMNS)} |\n{'|---' * (2 + len(COLUMNS))}|")
    precisions = []
    for dataset, kinds in judging.items():
        for kind, asked in kinds.items():
            figures = judge(asked.found, asked.places, value)
            print(f"| {dataset} | {kind} | {' | '.join(f'{x:.1f}' for x in figures.values())} |")
            precisions += [figures["precision"] / 100] if kind == CAPTIONS else []
    words, data = min(asked.words for asked in drawing), f"held-out persons of {', '.join(sets)}"
    line = GoodMatch(round(value, 4), words, round(float(np.mean(precisions)), 3), data)
    print(f"\nThe line: {json.dumps({CARD_KEY: line._asdict()})}")
    if flags.write:
        update_card(flags.model, {CARD_KEY: line._asdict()})
        say(f"Written into the card of {flags.model}.")
    return 0


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
