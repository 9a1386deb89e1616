"""A source folder: the list of its images and captions, and everything that can be wrong with it.

RSTPReid, CUHK-PEDES and ICFG-PEDES differ in names only, which a `Layout` states. One's own list is
read by `captions_file`. Imports no TensorFlow.
"""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cada_jax.common.errors import MissingFileError, UsageError, shown
from cada_jax.common.files import contents, local_path, read_json
from cada_jax.data.preparation.image_folder import ImageFolder, name_problem
from cada_jax.text.attribute_phrases import caption_problem, find_entity

SPLITS = ("train", "val", "test")
LISTED = 10  # problems of one kind in a message
_KEYS = ("captions", "id", "split")
MOST_PERSONS = 2**31  # a split holds persons as int32
# Mistakes in a list that somebody changed. A list with exactly the published counts is the
# published one, and is taken as its authors made it.
AUTHORS = ("persons in two splits", "images listed twice", "HTML in captions")


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the folder of one data set looks like.

    Attributes:
      title: name as published.
      folder: name of the folder as published; the source may be it or its parent.
      annotations: accepted names of the annotation file, the published one first.
      image_key: key of the annotation that holds the image's path.
      published: persons, images and captions of each split there is.
    """

    title: str
    folder: str
    annotations: tuple[str, ...]
    image_key: str
    published: Mapping[str, tuple[int, int, int]]

    @property
    def keys(self) -> set[str]:
        """Those that every entry needs."""
        return {self.image_key, *_KEYS}


class Problem(NamedTuple):
    """kind: heading under which many are listed; text: one line that names entry and value."""

    kind: str
    text: str


class Entry(NamedTuple):
    """One image of a list.

    Attributes:
      place: in the list, for messages: "entry 3", "line 7".
      image: path below the folder, as written.
      captions: none for an image that only stands in the gallery.
      person: id, as written.
      split: one of `SPLITS`.
      path: of the file, once it is found.
      pid: number of the person, once all are known.
    """

    place: str
    image: str
    captions: tuple[str, ...]
    person: str
    split: str
    path: str = ""
    pid: int = -1


@dataclasses.dataclass(frozen=True)
class Source:
    """A list of images that was read, and what is wrong with it.

    Attributes:
      annotation: the list.
      entries: images that can be used.
      problems: of the others, and of the whole.
      persons: the ids that person numbers stand for, empty where the numbers are the ids.
      published: as of `Layout`, empty for a list of one's own.
      notes: what the user should know of how the list was read.
    """

    annotation: Path
    entries: list[Entry]
    problems: list[Problem]
    persons: tuple[str, ...]
    published: Mapping[str, tuple[int, int, int]]
    notes: tuple[str, ...] = ()

    def of_split(self, split: str) -> list[Entry]:
        """Returns the entries of one split, in the order of the list."""
        return [entry for entry in self.entries if entry.split == split]

    def counts(self, split: str) -> tuple[int, int, int]:
        """Returns persons, images and captions of one split."""
        entries = self.of_split(split)
        captions = sum(len(entry.captions) for entry in entries)
        return len({entry.pid for entry in entries}), len(entries), captions

    @property
    def digest(self) -> str:
        """SHA-256 of all that is read of the list, in hexadecimal."""
        return hashlib.sha256(repr([entry[1:5] for entry in self.entries]).encode()).hexdigest()

    @property
    def is_as_published(self) -> bool:
        """Whether every split has the published numbers."""
        return {split: self.counts(split) for split in self.published or SPLITS} == self.published

    @property
    def blocking(self) -> list[Problem]:
        """Those of `problems` that the folder cannot be prepared with."""
        return [p for p in self.problems if not (self.is_as_published and p.kind in AUTHORS)]


def read_source(layout: Layout, folder: str | os.PathLike) -> Source:
    """Reads the annotation file of a published folder and looks for its images.

    Raises:
      MissingFileError: there is none.
      UsageError: it cannot be read, is not JSON, or not a list of this data set's entries.
    """
    path = find_annotation(layout, local_path(folder))
    what = f"the list of {layout.title}"
    items = read_json(path, what)
    ours = isinstance(items, list) and any(
        isinstance(item, dict) and layout.keys <= {*item} for item in items
    )
    if not ours:
        raise UsageError(
            f"{path}: expected {what}, entries with {', '.join(sorted(layout.keys))}; got "
            f"{shown(items, 200)}"
        )
    problems: list[Problem] = []
    entries: list[Entry] = []
    for number, item in enumerate(items):
        found = _entry(f"entry {number}", item, layout)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            entries.append(found)
    return make_source(path, path.parent, entries, problems, layout.published)


def find_annotation(layout: Layout, folder: Path) -> Path:
    """Returns the annotation file in a source folder, or in the published folder below it."""
    for root in (folder, folder / layout.folder):
        for name in layout.annotations:
            if os.path.isfile(root / name):
                return root / name
    there = "a file" if os.path.isfile(folder) else "nothing"
    if os.path.isdir(folder):
        there = contents(folder)
    raise MissingFileError(
        f"{folder}: expected {layout.title}, {layout.annotations[0]} (a JSON list of entries with "
        f"{', '.join(sorted(layout.keys))}) and the images under imgs/; found {there}"
    )


def _entry(place: str, item: Any, layout: Layout) -> Entry | Problem:
    if not isinstance(item, dict) or not layout.keys <= {*item}:
        keys = ", ".join(sorted(layout.keys))
        return Problem("entries", f"{place}: expected an object with {keys}; got {shown(item)}")
    image, captions, person, split = (item[key] for key in (layout.image_key, *_KEYS))
    fault = None
    if not isinstance(image, str):
        fault = "expected a path below imgs/"
    elif not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        fault = f"captions is {shown(captions)}, expected a list of texts"
    elif type(person) not in (int, str):
        fault = f"id is {shown(person)}, expected 0, 1, ... or a name"
    elif not isinstance(split, str) or split not in layout.published:
        fault = f"split is {shown(split)}, expected one of {', '.join(layout.published)}"
    if fault:
        return Problem("entries", f"{place}: image {shown(image, 200)}: {fault}")
    return Entry(place, image, tuple(captions), str(person), split)


def make_source(
    annotation: Path,
    root: str | os.PathLike,
    entries: Sequence[Entry],
    problems: Sequence[Problem],
    published: Mapping[str, tuple[int, int, int]],
    notes: tuple[str, ...] = (),
) -> Source:
    """Checks entries, finds their images below `root`, and numbers their persons."""
    problems, found = list(problems), []
    folder = ImageFolder(root)
    for entry in entries:
        problem = _problem(entry)
        files = [] if problem else folder.find(entry.image)
        if not problem and len(files) != 1:
            names = " and ".join(shown(os.path.basename(file)) for file in files)
            fault = f"fits several files, {names}" if files else f"is missing under {root}"
            problem = Problem("images", f"image {shown(entry.image, 200)} {fault}")
        if problem:
            problems.append(Problem(problem.kind, f"{entry.place}: {problem.text}"))
        else:
            found.append(entry._replace(path=files[0]))
    numbers, persons = number_persons([entry.person for entry in found])
    numbered = [e._replace(pid=pid) for e, pid in zip(found, numbers, strict=True)]
    problems += _problems_of_all(numbered)
    return Source(annotation, numbered, problems, persons, published, notes)


def _problem(entry: Entry) -> Problem | None:
    """The first thing that is wrong with what an entry says."""
    image = f"image {shown(entry.image, 200)}"
    if fault := name_problem(entry.image):
        return Problem("paths", f"{image} {fault}")
    if not entry.person.strip() or not entry.person.isprintable() or entry.person[0] == "-":
        text = f"id is {shown(entry.person)}, expected 0, 1, ... or a name; leave nobody's out"
        return Problem("persons", f"{image}: {text}")
    if fault := next(filter(None, map(caption_problem, entry.captions)), None):
        return Problem("captions", f"{image}: {fault}")
    return None


def _problems_of_all(entries: Sequence[Entry]) -> Iterator[Problem]:
    """Persons in two splits, images listed twice, and HTML entities in captions."""
    splits = collections.defaultdict(dict)  # of each person; a dict keeps their order
    files = collections.defaultdict(list)
    for entry in entries:
        splits[entry.person][entry.split] = None
        files[entry.path].append(entry.place)
    for person, names in splits.items():
        if len(names) > 1:
            yield Problem(AUTHORS[0], f"person {shown(person)} is in {' and '.join(names)}")
    for path, places in files.items():
        if len(places) > 1:
            yield Problem(AUTHORS[1], f"image {path} is listed twice: {', '.join(places[:5])}")
    for entry in entries:
        if entity := next(filter(None, map(find_entity, entry.captions)), None):
            text = f"{entry.place}: a caption holds the HTML entity {entity}: write the character"
            yield Problem(AUTHORS[2], text)


def number_persons(ids: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """Gives persons numbers that fit int32.

    Returns:
      The number of each id, and the ids by number. Where all ids are such numbers, they are their
      own, and the second part is empty; else persons are numbered in the order they come first.
    """
    own = [int(i) if i.isascii() and i.isdigit() and len(i) < 11 else MOST_PERSONS for i in ids]
    if all(n < MOST_PERSONS and str(n) == i for n, i in zip(own, ids, strict=True)):
        return own, ()
    known = list(dict.fromkeys(ids))
    number_of = {person: number for number, person in enumerate(known)}
    return [number_of[person] for person in ids], tuple(known)


def list_briefly(problems: Sequence[Problem]) -> Iterator[str]:
    """Yields lines for the user: the first ten problems of each kind, and how many there are."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem.text)
    for kind, texts in kinds.items():
        yield from texts[:LISTED]
        if len(texts) > LISTED:
            yield f"... {len(texts)} problems with {kind} in all"
