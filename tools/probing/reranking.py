"""Re-ranking: which queries it puts right and wrong, and what its errors share."""

from collections import Counter
from typing import Any

import numpy as np

from cada_jax.data.batches import query_batches
from cada_jax.data.datasets.synthetic.bound_twins import BOUND
from cada_jax.distributed.mesh import process_batch_slice
from cada_jax.retrieval.encode import Queries, encode_queries
from cada_jax.retrieval.ranking import Ranking
from tools.probing.subject import Subject
from tools.probing.truth import contradicted, differing

RANKS = (1, 2, 3, 5, 10, 32, 128)  # bounds of the histogram


def encode_captions(subject: Subject) -> Queries:
    """The chosen captions, encoded."""
    split, config = subject.split, subject.retriever.config
    share = process_batch_slice(subject.retriever.mesh)
    batches = query_batches(split, config, config.eval.batch_size, *share)
    every = encode_queries(subject.retriever, batches, split.num_captions)
    return Queries(*(x[subject.chosen] for x in every))


def measure_reranking(subject: Subject, ranking: Ranking) -> dict[str, Any]:
    """Counts queries by what re-ranking did to them, and describes its errors.

    Args:
      subject: its captions are the queries.
      ranking: of these.

    Returns:
      queries, top_k; R1: "similarity" and "reranked", in percent; counts: of "stay_right",
      "put_right", "put_wrong" and "stay_wrong"; unreachable: queries without a right image in the
      top k; rank_by_similarity: for the errors that are reachable, counts of the rank of the first
      right image; for generated people "similarity" and "reranked": `describe_errors` of either
      order.
    """
    counted = ranking.first_global >= 0
    before, after = ranking.first_global[counted] == 0, ranking.first_reranked[counted] == 0
    k = ranking.retrieved.indices.shape[1]
    reachable = ranking.first_global[counted] < k
    wrong_ranks = ranking.first_global[counted][~after & reachable] + 1
    found: dict[str, Any] = {
        "queries": int(counted.sum()),
        "top_k": k,
        "R1": {"similarity": 100 * float(before.mean()), "reranked": 100 * float(after.mean())},
        "counts": {
            "stay_right": int((before & after).sum()),
            "put_right": int((~before & after).sum()),
            "put_wrong": int((before & ~after).sum()),
            "stay_wrong": int((~before & ~after).sum()),
        },
        "unreachable": int((~reachable).sum()),
        "rank_by_similarity": _histogram(wrong_ranks),
    }
    if subject.truth is not None:
        queries = np.flatnonzero(counted)
        first = {
            "similarity": ranking.shown[:, 0],
            "reranked": np.array([ranking.best(q, 1)[0][0] for q in range(len(counted))]),
        }
        for name, right in (("similarity", before), ("reranked", after)):
            wrong = queries[~right]
            found[name] = describe_errors(subject, wrong, first[name][wrong])
    return found


def _histogram(ranks: np.ndarray) -> dict[str, int]:
    """Counts of int ranks, 1 is the best, in the intervals of `RANKS`."""
    found, low = {}, 0
    for high in RANKS:
        name = str(high) if high == low + 1 else f"{low + 1}-{high}"
        if count := int(((ranks > low) & (ranks <= high)).sum()):
            found[name] = count
        low = high
    return found


def describe_errors(subject: Subject, wrong: np.ndarray, preferred: np.ndarray) -> dict[str, Any]:
    """What the wrongly preferred images of generated people have to do with the captions.

    Args:
      subject: of generated people.
      wrong: int [W], queries in [0,Q).
      preferred: int [W] in [0,G), the image of another person that came first.

    Returns:
      errors; reader: those whose caption contradicts the preferred image, the reader's error; open:
      the others, where the caption fits both; persons_differ: number of attributes in which the two
      persons differ -> `errors`, and `reader`, how many of them are the reader's; recoloured:
      errors where they differ in nothing but colours of clothes and bags, as near-twins of the
      crowd do; attributes: name
      -> `contradicted`, `unstated` (the persons differ, the caption does not say it), `hidden` (it
      does, and the preferred image does not show it), and `stated`, in how many of all Q captions
      it is.
    """
    truth = subject.truth
    if truth is None:
        raise ValueError("only the truth about generated people tells what errors share")
    tables = {name: Counter() for name in ("contradicted", "unstated", "hidden")}
    recoloured = 0
    differ: dict[str, Counter[int]] = {"errors": Counter(), "reader": Counter()}
    for query, image in zip(wrong.tolist(), preferred.tolist(), strict=True):
        said, seen = truth.stated[subject.chosen[query]], truth.shown[image]
        other = int(subject.split.image_pids[image])
        apart = differing(truth.persons[int(subject.pids[query])], truth.persons[other])
        against = contradicted(said, seen)
        differ["errors"][len(apart)] += 1
        differ["reader"][len(apart)] += bool(against)
        recoloured += set(apart) <= set(BOUND)
        tables["contradicted"].update(against)
        for name in set(apart) - set(against):
            tables["hidden" if name in said else "unstated"][name] += 1
    stated = Counter(name for caption in subject.chosen for name in truth.stated[caption])
    names = sorted(set().union(*tables.values()))
    readers = differ["reader"].total()
    return {
        "errors": len(wrong),
        "reader": readers,
        "open": len(wrong) - readers,
        "persons_differ": {
            str(number): {part: counts[number] for part, counts in differ.items()}
            for number in sorted(differ["errors"])
        },
        "recoloured": recoloured,
        "attributes": {
            name: {part: table[name] for part, table in tables.items()} | {"stated": stated[name]}
            for name in names
        },
    }
