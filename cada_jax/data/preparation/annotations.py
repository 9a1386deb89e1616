"""A published folder: its annotation file, its images, and everything that can be wrong with it.

RSTPReid, CUHK-PEDES and ICFG-PEDES differ in names only, which a `Layout` states. Imports no
TensorFlow.
"""

import collections
import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.data.preparation.reader import Job
from cada_jax.text.attribute_phrases import caption_problem

LISTED = 10  # examples of one problem in a message


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the folder of one data set looks like.

    Attributes:
      title: name as published.
      folder: name of the folder as published; the source may be it or its parent.
      annotations: accepted names of the annotation file, the published one first.
      image_key: key of the annotation that holds the image's path.
      splits: ids, images and captions as published, for each split there is.
    """

    title: str
    folder: str
    annotations: tuple[str, ...]
    image_key: str
    splits: dict[str, tuple[int, int, int]]

    @property
    def expected(self) -> str:
        """What to put where, in words."""
        return (
            f"{self.annotations[0]} (a JSON list of entries with id, {self.image_key}, captions, "
            "split) and the images under imgs/"
        )


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image of an annotation file."""

    pid: int
    image: str
    captions: tuple[str, ...]
    split: str


@dataclasses.dataclass(frozen=True)
class Source:
    """An annotation file that was found, and what is in it.

    Attributes:
      layout: of the data set.
      root: the folder that the annotation file is in.
      annotation: the file.
      entries: well-formed entries.
      problems: one line for each other one.
    """

    layout: Layout
    root: Path
    annotation: Path
    entries: list[Entry]
    problems: list[str]

    def image_file(self, entry: Entry) -> Path | None:
        """Returns the image's file, below imgs/ or without that level; None if there is none."""
        for folder in (os.path.join(self.root, "imgs"), self.root):
            path = os.path.join(folder, entry.image)
            if os.path.isfile(path):
                return Path(path)
        return None

    def job(self, entry: Entry) -> Job:
        """Returns what `reading.read_all` needs of an entry."""
        path = self.image_file(entry)
        return Job(path and str(path), entry.image, entry.pid, entry.captions)

    def of_split(self, split: str) -> list[Entry]:
        """Returns the entries of one split, in the order of the file."""
        return [entry for entry in self.entries if entry.split == split]

    def counts(self, split: str) -> tuple[int, int, int]:
        """Returns ids, images and captions of one split."""
        entries = self.of_split(split)
        captions = sum(len(entry.captions) for entry in entries)
        return len({entry.pid for entry in entries}), len(entries), captions

    @property
    def is_as_published(self) -> bool:
        """Whether every split has the published numbers of ids, images and captions."""
        return all(self.counts(split) == n for split, n in self.layout.splits.items())


def _archives(folder: Path) -> str:
    names = [p.name for p in sorted(folder.glob("*")) if p.suffix in (".zip", ".tar", ".gz", ".7z")]
    return ", ".join(names[:LISTED])


def find_annotation(layout: Layout, folder: str | Path) -> Path:
    """Returns the annotation file in a source folder, or in the published folder below it.

    Raises:
      MissingFileError: there is none; says what was expected, what is there, and of archives to
        unpack.
    """
    folder = Path(folder).expanduser()
    if folder.is_file():
        raise MissingFileError(
            f"{folder} is a file: unpack it if it is an archive, and give the folder that holds "
            f"{layout.expected}"
        )
    for root in (folder, folder / layout.folder):
        for name in layout.annotations:
            if (root / name).is_file():
                return root / name
    if not folder.is_dir():
        raise MissingFileError(f"{folder} does not exist: expected {layout.expected}")
    archives, others = _archives(folder), ", ".join(sorted(p.name for p in folder.glob("*.json")))
    hint = f". Unpack {archives} there first" if archives else ""
    if others:
        hint += f". It holds {others}: is --dataset right, and is this the file of that name?"
    raise MissingFileError(f"{folder} holds no {layout.title}: expected {layout.expected}{hint}")


def read_source(layout: Layout, folder: str | Path) -> Source:
    """Reads the annotation file of a source folder.

    Raises:
      MissingFileError: there is none.
      UsageError: it cannot be read, is not JSON, or not a list of this data set's entries.
    """
    path = find_annotation(layout, folder)
    try:
        items = json.loads(path.read_text(encoding="utf-8-sig"))  # editors may add a mark
    except (ValueError, RecursionError) as err:
        raise UsageError(f"{path} is not JSON: {err}. Download or unpack it again") from err
    except OSError as err:
        raise UsageError(f"{path} cannot be read: {err.strerror}. Change its permissions") from err
    needed = {"id", layout.image_key, "captions", "split"}
    if not isinstance(items, list) or not items:
        raise UsageError(f"{path}: expected a list of {layout.title} entries, a JSON list")
    if not any(isinstance(item, dict) and needed <= item.keys() for item in items):
        keys = sorted(items[0]) if isinstance(items[0], dict) else type(items[0]).__name__
        raise UsageError(
            f"{path} is not the annotation file of {layout.title}: expected the keys "
            f"{sorted(needed)}, the first entry has {keys}. Is --dataset right?"
        )
    entries, problems = [], []
    for i, item in enumerate(items):
        problem = _entry_problem(item, layout)
        if problem:
            problems.append(f"entry {i}: {problem}")
        else:
            captions = tuple(item["captions"])
            entries.append(Entry(int(item["id"]), item[layout.image_key], captions, item["split"]))
    return Source(layout, path.parent, path, entries, problems)


def _entry_problem(item: Any, layout: Layout) -> str | None:
    if not isinstance(item, dict):
        return f"expected an object, got {type(item).__name__}"
    missing = {"id", layout.image_key, "captions", "split"} - item.keys()
    if missing:
        return f"no {', '.join(sorted(missing))}"
    if not isinstance(item["id"], int) or isinstance(item["id"], bool):
        return f"id is {item['id']!r}, expected an integer"
    image = item[layout.image_key]
    if not isinstance(image, str) or not image:
        return f"{layout.image_key} is {image!r}, expected a path"
    if item["split"] not in layout.splits:
        return f"image {image}: unknown split {item['split']!r}, expected {list(layout.splits)}"
    if not isinstance(item["captions"], list) or not item["captions"]:
        return f"image {image}: captions is {item['captions']!r}, expected a list of strings"
    problem = next(filter(None, map(caption_problem, item["captions"])), None)
    return f"image {image}: {problem}" if problem else None


def split_pids(entries: Iterable[Entry]) -> dict[str, list[int]]:
    """Returns the person of every image, by split."""
    pids = collections.defaultdict(list)
    for entry in entries:
        pids[entry.split].append(entry.pid)
    return dict(pids)


def list_problems(source: Source) -> list[str]:
    """Returns everything wrong with a folder that shows without opening its images."""
    return source.problems + numbering_problems(source) + _missing_images(source)


def blocking_problems(source: Source) -> list[str]:
    """Returns those of `list_problems` that a folder cannot be prepared with.

    Persons in two splits and paths used twice are mistakes in a list that somebody changed. A file
    with exactly the published counts is the published one, and is taken as its authors made it.
    """
    numbering = [] if source.is_as_published else numbering_problems(source)
    return source.problems + numbering + _missing_images(source)


def numbering_problems(source: Source) -> list[str]:
    """Returns persons that are in two splits and image paths that are listed twice."""
    problems = []
    for pid, splits in sorted(shared_persons(split_pids(source.entries)).items()):
        problems.append(f"person {pid} is in the splits {' and '.join(splits)}")
    counts = collections.Counter(entry.image for entry in source.entries)
    return problems + [f"image {image} has {n} entries" for image, n in counts.items() if n > 1]


def _missing_images(source: Source) -> list[str]:
    missing = [entry.image for entry in source.entries if source.image_file(entry) is None]
    if not missing:
        return []
    archives = _archives(source.root)
    return [
        f"{len(missing)} of {len(source.entries)} images are missing under "
        f"{source.root / 'imgs'} (and {source.root}), the first: {', '.join(missing[:LISTED])}"
        + (f"; not unpacked yet: {archives}?" if archives else "")
    ]


def shared_persons(split_pids: dict[str, Iterable[int]]) -> dict[int, tuple[str, ...]]:
    """Returns the persons that are in more than one split, with the splits' names.

    Args:
      split_pids: for each split the person of every image.
    """
    splits_of: dict[int, list[str]] = {}
    for split, pids in split_pids.items():
        for pid in set(pids):
            splits_of.setdefault(pid, []).append(split)
    return {pid: tuple(splits) for pid, splits in splits_of.items() if len(splits) > 1}
