"""What excluded words, several phrasings and a picture beside words do to the results."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.query import Query
from cada_jax.retriever import Hit, Retriever
from tools.search.pictures import Shown

TOP = 10
AT_ONCE = 200
LEAST_RIGHT, LEAST_EXCLUDED = 10, 5  # pictures that a question must have of either kind
PLURAL = ("trousers", "shorts", "glasses", "sunglasses", "sneakers", "boots", "sandals")
WORN = ("top", "outer", "bottom", "shoes", "headwear", "scarf", "eyewear")
EXCLUDED = ("bag", "item", "headwear", "eyewear", "beard", "scarf", "outer", "bottom", "shoes")


class Question(NamedTuple):
    """A description with what it says of a person, and an excluded thing (field, value)."""

    text: str
    says: dict[str, str]
    excluded: tuple[str, str]


def thing(field: str, value: str) -> str:
    """A value in words: "a person with an umbrella", "a person in boots"."""
    article = "" if value in PLURAL else "an " if value[0] in "aeiou" else "a "
    return f"a person {'in' if field in WORN else 'with'} {article}{value}"


def questions(shown: list[Shown], count: int) -> list[Question]:
    """Draws questions that enough pictures answer, and enough of these show what is excluded."""
    says = [
        ({"gender": gender, field: color}, f"a {gender} in {a}{color} {noun}")
        for gender in ("man", "woman")
        for field, a, noun in (("top_color", "a ", "top"), ("bottom_color", "", "pants"))
        for color in sorted({one.identity[field] for one in shown} - {"none"})
    ]
    things = sorted({(f, one.identity[f]) for one in shown for f in EXCLUDED} - {("", "")})
    found = []
    for said, text in says:
        right = np.array([said.items() <= dict(one.identity).items() for one in shown])
        for field, value in things:
            if value == "none" or field in (name.removesuffix("_color") for name in said):
                continue
            carried = np.array([one.seen.get(field) == value for one in shown])
            if (right & ~carried).sum() >= LEAST_RIGHT and (
                right & carried
            ).sum() >= LEAST_EXCLUDED:
                found.append(Question(text, said, (field, value)))
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i] for i in order[:count]]


def search(retriever: Retriever, gallery: EncodedImages, queries: list[Query]) -> list[list[Hit]]:
    """Results of many queries, a few hundred at a time."""
    starts = range(0, len(queries), AT_ONCE)
    parts = (retriever.search(queries[i : i + AT_ONCE], gallery) for i in starts)
    return [hits for part in parts for hits in part]


def encode(retriever: Retriever, shown: list[Shown]) -> EncodedImages:
    """The pictures, ready to be searched."""
    pids = [one.person for one in shown]
    return retriever.encode_images([one.pixels for one in shown], pids=pids)


def percent(share: Any) -> float:
    """A share as percent with one digit."""
    return round(100 * float(np.mean(share)), 1)


def measure_exclude(
    retriever: Retriever, shown: list[Shown], count: int
) -> Iterator[dict[str, Any]]:
    """Short questions with an exclusion, and full captions with one that is needless."""
    gallery = encode(retriever, shown)
    asked = questions(shown, count)
    for way in ("nothing", "a word", "a description"):
        queries = [Query(q.text, _excluded(way, *q.excluded), k=TOP) for q in asked]
        carries, right = [], []
        for question, hits in zip(asked, search(retriever, gallery, queries), strict=True):
            field, value = question.excluded
            found = [shown[hit.index] for hit in hits]
            carries.append([one.seen.get(field) == value for one in found])
            says = question.says.items()
            right.append([says <= dict(one.identity).items() for one in found])
        both = np.array(right) & ~np.array(carries)
        yield {
            "excluded by": way,
            "queries": len(asked),
            "show it": percent(carries),
            "as described": percent(right),
            "described without it": percent(both),
        }
    rng = np.random.default_rng(0)
    some = rng.permutation(len(shown))[:count]
    needless = [asked[i].excluded for i in rng.integers(len(asked), size=len(some))]
    for way in ("nothing", "a word", "a description"):
        kept = [(shown[i], e) for i, e in zip(some, needless, strict=True)]
        kept = [(one, e) for one, e in kept if one.identity[e[0]] != e[1]]
        queries = [Query(one.captions[0], _excluded(way, *e), k=1) for one, e in kept]
        found = search(retriever, gallery, queries)
        right = [hits[0].pid == one.person for hits, (one, _) in zip(found, kept, strict=True)]
        yield {"needlessly excluded by": way, "queries": len(kept), "R1": percent(right)}


def _excluded(way: str, field: str, value: str) -> tuple[str, ...]:
    return {"nothing": (), "a word": (value,), "a description": (thing(field, value),)}[way]


def measure_phrasings(
    retriever: Retriever, shown: list[Shown], count: int
) -> Iterator[dict[str, Any]]:
    """R@1 of one caption of a picture and of two, by similarity and re-ranked."""
    gallery = encode(retriever, shown)
    some = [shown[i] for i in np.random.default_rng(0).permutation(len(shown))[:count]]
    for number in (1, 2):
        line: dict[str, Any] = {"phrasings": number, "queries": len(some)}
        for name, rerank in (("global", 0), ("reranked", 32)):
            queries = [Query(one.captions[:number], k=1, rerank=rerank) for one in some]
            found = search(retriever, gallery, queries)
            right = [h[0].pid == one.person for h, one in zip(found, some, strict=True)]
            line[f"R1 {name}"] = percent(right)
        yield line


def measure_like(retriever: Retriever, shown: list[Shown], count: int) -> Iterator[dict[str, Any]]:
    """R@1 and mAP at 10 of other pictures of a person: by a caption, a picture, or both.

    The caption is of another picture than the one to resemble.
    """
    gallery = encode(retriever, shown)
    by_person: dict[int, list[int]] = {}
    for i, one in enumerate(shown):
        by_person.setdefault(one.person, []).append(i)
    some = np.random.default_rng(0).permutation(len(shown))[:count]
    some = [int(i) for i in some if len(by_person[shown[i].person]) > 1]
    for name, words, picture, rerank in (
        ("words", True, False, 0),
        ("picture", False, True, 0),
        ("both", True, True, 0),
        ("both, re-ranked", True, True, 32),
    ):
        queries = []
        for i in some:
            own = by_person[shown[i].person]
            other = shown[own[(own.index(i) + 1) % len(own)]]
            texts = other.captions[:1] if words else ()
            queries.append(Query(texts, like_id=str(i) if picture else "", k=12, rerank=rerank))
        firsts, precisions = [], []
        for i, hits in zip(some, search(retriever, gallery, queries), strict=True):
            right = [hit.pid == shown[i].person for hit in hits if hit.index != i][:TOP]
            places = np.flatnonzero(right)
            total = min(TOP, len(by_person[shown[i].person]) - 1)
            firsts.append(right[0])
            precisions.append(((np.arange(len(places)) + 1) / (places + 1)).sum() / total)
        yield {
            "by": name,
            "queries": len(some),
            "R1": percent(firsts),
            "mAP at 10": percent(precisions),
        }
