"""How well queries as people type them are answered: two to five words, several persons right.

    python -m tools.short_queries --model=runs/demo/model [--model=DIR ...] --out=FILE.json
                                  [--dataset=synthetic/demo] [--queries=500]
    python -m tools.ablate --config=synthetic --rows=everything,short --seeds=3 --out=runs/short &&
        python -m tools.short_queries $(printf -- '--model=%s ' runs/short/runs/*/model)

An image is right where its person has all the attributes that a query names, seen in the image or
not. R@1 is the share of queries whose first image is right; mAP counts all of them. "global" ranks
by similarity, "reranked" has the decoder's match logit added for the nearest 32. "captions" are the
split's own, whole, where the person described is right. Models whose folders differ in -seedN alone
share a row: mean and standard deviation over the seeds.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from cada_jax.data.datasets.synthetic import people
from cada_jax.retrieval.metrics import rank_metrics
from cada_jax.retrieval.ranking import rank
from tools.arguments import command
from tools.measuring import measure_each, model_flags, show
from tools.probing.reranking import encode_captions
from tools.probing.subject import SEED, Subject
from tools.probing.typed_queries import RERANKED, answers, score_nearest, type_queries

CAPTIONS = 500
SHOWN = ("R1", "mAP")
STAGES = ("global", "reranked")


def measure(subject: Subject, count: int) -> dict[str, Any]:
    """The figures of one model on one set, in percent."""
    network, gallery, truth = subject.retriever, subject.gallery, subject.truth
    assert truth is not None, "generated people alone"
    speech = people.VARIANTS[network.config.data.variant or people.DEMO.name].world.speech
    typed = type_queries(truth.shown, speech, count, SEED)
    right = answers(typed, [truth.persons[int(pid)] for pid in subject.split.image_pids])
    queries = network.encode_text([query.text for query in typed])
    similarity = queries.embeddings @ gallery.embeddings.T
    nearest, score = score_nearest(network, queries, gallery, similarity)
    captions = rank(network, encode_captions(subject), gallery, RERANKED).metrics
    return {
        "model": subject.name,
        "dataset": subject.split.dataset,
        "queries": len(typed),
        "words": float(np.mean([len(query.text.split()) for query in typed])),
        "right_images": float(right.sum(axis=1).mean()),
        "chance": 100 * float(right.mean()),
        "global": rank_metrics(similarity, right),
        "reranked": rank_metrics(similarity, right, nearest, score),
        "captions": {stage: captions[stage] for stage in STAGES},
    }


def table(found: list[dict[str, Any]]) -> str:
    """The figures as a table of Markdown, a row for the seeds of a model."""
    lines = [
        "| model | set | R@1 global | R@1 reranked | mAP global | mAP reranked "
        "| captions: R@1 global | R@1 reranked |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows: dict[tuple[str, str], list[list[float]]] = {}
    for one in found:
        cells = [one[stage][name] for name in SHOWN for stage in STAGES]
        cells += [one["captions"][stage]["R1"] for stage in STAGES]
        name = re.sub(r"-seed\d+(/model)?/?$", "", one["model"])
        rows.setdefault((name, one["dataset"]), []).append(cells)
    for (name, dataset), seeds in rows.items():
        figures = [f"{mean:.1f}" for mean in np.mean(seeds, axis=0)]
        if len(seeds) > 1:
            spread = np.std(seeds, axis=0, ddof=1)
            figures = [f"{a} ± {b:.1f}" for a, b in zip(figures, spread, strict=True)]
        lines.append(f"| {name} | {dataset} | {' | '.join(figures)} |")
    one = found[0]
    lines.append(
        f"\n{one['queries']} queries of {one['words']:.1f} words; {one['right_images']:.1f} right "
        f"images each, chance {one['chance']:.1f}; seed {SEED} of the queries."
    )
    return "\n".join(lines)


def run(argv: Sequence[str] | None) -> int:
    """Measures what the flags name; returns the exit code."""
    parser = model_flags("tools.short_queries", __doc__)
    parser.add_argument("--queries", type=int, default=500, help="500 by default")
    parser.add_argument("--out", help="JSON file of all figures")
    flags = parser.flags(argv)
    found = measure_each(flags, lambda subject: measure(subject, flags.queries), CAPTIONS)
    return show(found, table, flags.out)


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
