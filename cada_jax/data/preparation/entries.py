"""Entries of an annotation file: each one checked, and its person given a number."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cada_jax.data.preparation.image_folder import name_problem
from cada_jax.data.preparation.json_list import shorten
from cada_jax.data.preparation.layout import LISTED, Layout
from cada_jax.text.attribute_phrases import caption_problem

FEW = 20  # problems that are listed one by one
MOST_PERSONS = 2**31  # a split holds persons as int32


class Problem(NamedTuple):
    """Something wrong with a source folder.

    Attributes:
      kind: heading under which many of them are listed.
      text: one line that names entry, field and value.
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image of an annotation file.

    Attributes:
      pid: number of the person, see `number_persons`.
      image: path below imgs/, as written.
      captions: as written.
      split: "train", "val" or "test".
      number: of the entry in the file, from 0.
      person: id of the person, as written.
    """

    pid: int
    image: str
    captions: tuple[str, ...]
    split: str
    number: int
    person: int | str


def read_entries(
    items: Sequence[Any], layout: Layout
) -> tuple[list[Entry], list[Problem], tuple[int | str, ...]]:
    """Checks the items of an annotation file.

    Returns:
      The well-formed entries; one problem for each other item; the ids that the numbers of the
      entries' persons stand for, empty where the numbers are the ids.
    """
    problems = [problem for i, item in enumerate(items) for problem in _problems(i, item, layout)]
    bad = {number for number, _ in problems}
    good = [i for i in range(len(items)) if i not in bad]
    mixed = _mixed_ids([(i, items[i]["id"]) for i in good])
    problems += mixed
    strangers = {number for number, _ in mixed}
    good = [i for i in good if i not in strangers]
    numbers, persons = number_persons([items[i]["id"] for i in good])
    entries = [
        Entry(
            pid=pid,
            image=items[i][layout.image_key],
            captions=tuple(items[i]["captions"]),
            split=items[i]["split"],
            number=i,
            person=items[i]["id"],
        )
        for i, pid in zip(good, numbers, strict=True)
    ]
    return entries, [problem for _, problem in sorted(problems, key=lambda p: p[0])], persons


def number_persons(
    ids: Sequence[int | str],
) -> tuple[list[int], tuple[int | str, ...]]:
    """Gives persons numbers that fit int32.

    Returns:
      The number of each id, and the ids by number. Integers that fit are their own numbers, and
      the second part is empty then. Larger integers are numbered 0, 1, ... by size, texts in the
      order in which they come first.
    """
    small = [i for i in ids if isinstance(i, int) and i < MOST_PERSONS]
    if len(small) == len(ids):
        return small, ()
    known = sorted(set(ids)) if isinstance(ids[0], int) else list(dict.fromkeys(ids))
    number_of = {person: number for number, person in enumerate(known)}
    return [number_of[person] for person in ids], tuple(known)


def _problems(number: int, item: Any, layout: Layout) -> list[tuple[int, Problem]]:
    found = _entry_problem(item, layout)
    if not found:
        return []
    kind, text = found
    return [(number, Problem(kind, f"entry {number}: {text}"))]


def _entry_problem(item: Any, layout: Layout) -> tuple[str, str] | None:
    """The kind and the text of the first thing wrong with an item."""
    if not isinstance(item, dict):
        return "entries", f"expected an object, got {type(item).__name__} {shorten(item)}"
    missing = layout.keys - item.keys()
    if missing:
        image = item.get(layout.image_key)
        named = f" ({layout.image_key} is {shorten(image)})" if image else ""
        return "entries", f"no {', '.join(sorted(missing))}{named}"
    image = item[layout.image_key]
    problem = name_problem(image)
    if problem:
        return "paths", f"{layout.image_key} is {shorten(image)}, which {_verb(problem)}"
    of_image = f"{layout.image_key} {shorten(image, 200)}: "
    problem = person_problem(item["id"])
    if problem:
        return "persons", f"{of_image}id is {shorten(item['id'])}{problem}"
    split = item["split"]
    if not isinstance(split, str) or split not in layout.splits:
        return "splits", f"{of_image}split is {shorten(split)}, expected one of {_names(layout)}"
    captions = item["captions"]
    if not isinstance(captions, list) or not captions:
        return "captions", f"{of_image}captions is {shorten(captions)}, expected a list of strings"
    for place, caption in enumerate(captions):
        problem = caption_problem(caption)
        if problem:
            return "captions", f"{of_image}captions[{place}]: {problem}"
    return None


def _verb(problem: str) -> str:
    """A problem of a name as a clause: "expected ..." gets its own beginning."""
    return f"is no name: {problem}" if problem.startswith("expected") else problem


def _names(layout: Layout) -> str:
    return ", ".join(map(repr, layout.splits))


def person_problem(person: Any) -> str | None:
    """Returns what is wrong with a person's id as the end of a sentence, None if nothing is."""
    kind = type(person).__name__
    if isinstance(person, bool) or not isinstance(person, int | str):
        whole = type(person) is float and float(person).is_integer()
        remedy = f": write {int(person)}" if whole else ""
        return f" ({kind}), expected an integer or a text{remedy}"
    if isinstance(person, int):
        return (
            ", expected 0 or more: re-identification sets mark images of nobody in particular so; "
            "leave the entry out"
            if person < 0
            else None
        )
    if not person.strip() or person != person.strip():
        return ", expected a text without blanks around it"
    try:
        person.encode()
    except UnicodeEncodeError:
        return ", which holds half a character (a lone surrogate): write it in UTF-8"
    return None


def _mixed_ids(ids: Iterable[tuple[int, int | str]]) -> list[tuple[int, Problem]]:
    """Ids that are texts where most are integers, or the other way round: is "7" the person 7?"""
    ids = list(ids)
    texts = sum(isinstance(person, str) for _, person in ids)
    if texts in (0, len(ids)):
        return []
    rare, others = (str, "an integer") if 2 * texts <= len(ids) else (int, "a text")
    return [
        (n, Problem("persons", f"entry {n}: id is {shorten(i)}, expected {others} as elsewhere"))
        for n, i in ids
        if isinstance(i, rare)
    ]


def list_problems_briefly(problems: Sequence[Problem]) -> list[str]:
    """Returns lines for the user: all problems if they are few, else the first ten of each kind."""
    if len(problems) <= FEW:
        return [problem.text for problem in problems]
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem.text)
    lines = []
    for kind, texts in kinds.items():
        first = f", the first {LISTED}" if len(texts) > LISTED else ""
        lines.append(f"{kind}: {len(texts)}{first}")
        lines += [f"  {text}" for text in texts[:LISTED]]
    return lines
