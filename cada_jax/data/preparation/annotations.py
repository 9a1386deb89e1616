"""A published folder: its annotation file, its images, and everything that can be wrong with it.

RSTPReid, CUHK-PEDES and ICFG-PEDES differ in names only, which a `Layout` states. Imports no
TensorFlow.
"""

import collections
import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from cada_jax.common.errors import UsageError
from cada_jax.data.preparation.entries import Entry, Problem, read_entries
from cada_jax.data.preparation.image_folder import Found, ImageFolder
from cada_jax.data.preparation.json_list import read_list, shorten
from cada_jax.data.preparation.layout import Layout, find_annotation, list_archives
from cada_jax.data.preparation.reader import Job
from cada_jax.text.attribute_phrases import find_entity


@dataclasses.dataclass(frozen=True)
class Source:
    """An annotation file that was found, and what is in it.

    Attributes:
      layout: of the data set.
      root: the folder that the annotation file is in.
      annotation: the file.
      entries: well-formed entries.
      problems: one for each other one.
      persons: the ids that person numbers stand for, empty where the numbers are the ids.
    """

    layout: Layout
    root: Path
    annotation: Path
    entries: list[Entry]
    problems: list[Problem]
    persons: tuple[int | str, ...] = ()

    @functools.cached_property
    def found(self) -> list[Found]:
        """Where the image of each entry is; looked up once."""
        folder = ImageFolder(self.root)
        return [folder.find(entry.image) for entry in self.entries]

    @functools.cached_property
    def _path_of(self) -> dict[int, str | None]:
        return {e.number: f.path for e, f in zip(self.entries, self.found, strict=True)}

    def image_file(self, entry: Entry) -> Path | None:
        """Returns the image's file, below imgs/ or without that level; None if there is none."""
        path = self._path_of[entry.number]
        return None if path is None else Path(path)

    def label(self, entry: Entry) -> str:
        """Returns an entry's number and image, the beginning of a message."""
        return f"entry {entry.number}: {self.layout.image_key} {shorten(entry.image, 200)}"

    def job(self, entry: Entry) -> Job:
        """Returns what `reader.read_all` needs of an entry."""
        path, label = self._path_of[entry.number], self.label(entry)
        return Job(path, entry.image, entry.pid, entry.captions, label)

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

    def person(self, pid: int) -> int | str:
        """Returns the id that a person's number stands for."""
        return self.persons[pid] if self.persons else pid


def read_source(layout: Layout, folder: str | os.PathLike) -> Source:
    """Reads the annotation file of a source folder.

    Raises:
      MissingFileError: there is none.
      UsageError: it cannot be read, is not JSON, or not a list of this data set's entries.
    """
    path = find_annotation(layout, folder)
    items = read_list(path)
    if not any(isinstance(item, dict) and layout.keys <= item.keys() for item in items):
        first = items[0]
        keys = sorted(first) if isinstance(first, dict) else type(first).__name__
        raise UsageError(
            f"{path} is not the annotation file of {layout.title}: expected the keys "
            f"{sorted(layout.keys)}, the first entry has {shorten(keys, 200)}. Is --dataset right?"
        )
    entries, problems, persons = read_entries(items, layout)
    return Source(layout, path.parent, path, entries, problems, persons)


def list_problems(source: Source) -> list[Problem]:
    """Returns everything wrong with a folder that shows without opening its images."""
    return source.problems + authors_problems(source) + _image_problems(source)


def blocking_problems(source: Source) -> list[Problem]:
    """Returns those of `list_problems` that a folder cannot be prepared with.

    Persons in two splits, paths used twice and pieces of web pages in captions are mistakes in a
    list that somebody changed. A file with exactly the published counts is the published one, and
    is taken as its authors made it.
    """
    authors = [] if source.is_as_published else authors_problems(source)
    return source.problems + authors + _image_problems(source)


def authors_problems(source: Source) -> list[Problem]:
    """Returns persons in two splits, images listed twice, and HTML entities in captions."""
    problems = []
    for pid, splits in sorted(shared_persons(split_pids(source.entries)).items()):
        person = shorten(source.person(pid))
        text = f"person {person} is in the splits {' and '.join(splits)}"
        problems.append(Problem("persons in two splits", text))
    seen: dict[str, list[Entry]] = collections.defaultdict(list)
    for entry, found in zip(source.entries, source.found, strict=True):
        seen[os.path.normpath(found.path or entry.image)].append(entry)
    for entries in seen.values():
        if len(entries) > 1:
            numbers = ", ".join(str(entry.number) for entry in entries[:5])
            text = f"image {entries[0].image} has {len(entries)} entries: {numbers}"
            problems.append(Problem("images listed twice", text))
    return problems + list(_entities(source))


def _entities(source: Source) -> Iterable[Problem]:
    for entry in source.entries:
        for place, caption in enumerate(entry.captions):
            entity = find_entity(caption)
            if entity:
                text = f"{source.label(entry)}: captions[{place}] holds the HTML entity {entity}"
                yield Problem("HTML in captions", f"{text}: write the character itself")


def repeated_captions(source: Source) -> int:
    """Returns the number of images that have one caption twice; all are kept."""
    return sum(len(set(entry.captions)) < len(entry.captions) for entry in source.entries)


def _image_problems(source: Source) -> list[Problem]:
    """Images without a file: folders that are missing whole as one problem each."""
    problems, folders = [], collections.Counter()
    missing = [
        (entry, found)
        for entry, found in zip(source.entries, source.found, strict=True)
        if found.path is None
    ]
    for entry, found in missing:
        if found.folder is not None:
            folders[found.folder] += 1
        else:
            text = f"{source.label(entry)} {found.problem} under {source.root / 'imgs'}"
            problems.append(Problem("images", text))
    archives = list_archives(source.root)
    hint = f"; not unpacked yet: {archives}?" if archives else ""
    for folder, number in sorted(folders.items()):
        text = (
            f"folder {shorten(folder)} is missing under {source.root / 'imgs'} (and "
            f"{source.root}): {number} of {len(source.entries)} images lie in it{hint}"
        )
        problems.append(Problem("missing folders", text))
    if len(missing) == len(source.entries) > 1:
        text = f"all {len(missing)} images are missing under {source.root / 'imgs'} (and "
        return [Problem("images", f"{text}{source.root}), the first: {missing[0][0].image}{hint}")]
    return problems


def split_pids(entries: Iterable[Entry]) -> dict[str, list[int]]:
    """Returns the person of every image, by split."""
    pids = collections.defaultdict(list)
    for entry in entries:
        pids[entry.split].append(entry.pid)
    return dict(pids)


def shared_persons(split_pids: Mapping[str, Iterable[int]]) -> dict[int, tuple[str, ...]]:
    """Returns the persons that are in more than one split, with the splits' names.

    Args:
      split_pids: for each split the person of every image.
    """
    splits_of: dict[int, list[str]] = {}
    for split, pids in split_pids.items():
        for pid in set(pids):
            splits_of.setdefault(pid, []).append(split)
    return {pid: tuple(splits) for pid, splits in splits_of.items() if len(splits) > 1}
