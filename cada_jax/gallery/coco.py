"""Persons' boxes in the COCO detection format, checked entry by entry.

Format: https://cocodataset.org/#format-data (a mapping with `images` and `annotations`) and
https://cocodataset.org/#format-results (a list of what a detector found).
"""

import json
import math
import os
import pathlib
import reprlib
from typing import Any, NamedTuple, NoReturn

from cada_jax.common.errors import MissingFileError, UsageError

PERSON = 1  # category_id of a person in COCO


class Box(NamedTuple):
    """A person's place in a scene: pixels from the upper left corner of the upright picture.

    Attributes:
      x, y, width, height: finite; the sizes are not negative.
      score: the detector's, None where the file states none.
    """

    x: float
    y: float
    width: float
    height: float
    score: float | None


class _Entry(NamedTuple):
    place: str  # in the file, for messages
    name: str
    box: Box
    category: int | None


def read_coco(
    path: str | os.PathLike,
    min_score: float,
    category: int | None,
    images_path: str | os.PathLike | None,
) -> dict[str, list[Box]]:
    """Returns the persons' boxes of every file name that a boxes file holds.

    Arguments and errors as of `boxes.read_boxes`.
    """
    if not math.isfinite(min_score):
        raise UsageError(f"min_score: expected a finite number, got {min_score}.")
    file = _File(path)
    content = file.json()
    images_file = file if images_path is None else _File(images_path)
    images_content = content if images_path is None else images_file.json()
    names = images_file.names(images_content, needed=images_path is not None)
    read = [file.entry(place, entry, names) for place, entry in file.entries(content)]
    sources = [(images_file, images_content), (file, content)]
    persons = _persons(file, read, category, sources)
    boxes: dict[str, list[Box]] = {name: [] for name in (*names.values(), *(e.name for e in read))}
    kept = [e for e in persons if e.box.score is None or e.box.score >= min_score]
    if not kept:
        highest = max(e.box.score for e in persons if e.box.score is not None)
        raise UsageError(
            f"{file.path}: no box has a score of at least {min_score:g}, the highest is "
            f"{highest:g}. Give a smaller minimal score."
        )
    for entry in kept:
        boxes[entry.name].append(entry.box)
    return boxes


def _persons(
    file: "_File", read: list[_Entry], category: int | None, sources: list
) -> list[_Entry]:
    """The entries of persons; all, where no entry has a category."""
    known = {entry.category for entry in read if entry.category is not None}
    if not known:
        if category is not None:
            raise UsageError(
                f"{file.path}: no entry has a category_id, so category {category} cannot be "
                "chosen. Leave the category out: all boxes count as persons."
            )
        return read
    for entry in read:
        if entry.category is None:
            file.fail(f"{entry.place}.category_id", "an id, as other entries have", None)
    if category is None:
        found = (source.person_id(content) for source, content in sources)
        category = next((number for number in found if number is not None), PERSON)
    persons = [entry for entry in read if entry.category == category]
    if not persons:
        shown = reprlib.repr(sorted(known)).strip("[]")
        raise UsageError(
            f"{file.path}: no entry has category_id {category}, the id of a person; there are "
            f"{shown}. Give the id of a person as the category."
        )
    return persons


class _File:
    """A JSON file that names itself in every message."""

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path).expanduser()

    def fail(self, place: str, expected: str, got: object) -> NoReturn:
        came = "nothing" if got is None else f"{type(got).__name__} {reprlib.repr(got)}"
        raise UsageError(
            f"{self.path}: {place}{': ' if place else ''}expected {expected}, got {came}. Write "
            "the file in the COCO format, https://cocodataset.org/#format-results"
        )

    def json(self) -> Any:
        try:
            return json.loads(self.path.read_bytes())
        except FileNotFoundError as err:
            raise MissingFileError(
                f"{self.path}: expected a file of persons' boxes, but it does not exist."
            ) from err
        except OSError as err:
            raise UsageError(f"{self.path} cannot be read ({err.strerror}).") from err
        except (ValueError, RecursionError) as err:
            raise UsageError(
                f"{self.path}: expected JSON in the COCO format, but it cannot be read as JSON "
                f"({' '.join(str(err).split())})."
            ) from err

    def entries(self, content: object) -> list[tuple[str, object]]:
        """What a file lists, each with its place; regions of a crowd are left out."""
        where, place, entries = "", "entry {}", content
        if isinstance(content, dict):
            where, place = "annotations", "annotations[{}]"
            entries = content.get(where)
        if not isinstance(entries, list):
            self.fail(where, "a list of persons' boxes", entries)
        found = [
            (place.format(number), entry)
            for number, entry in enumerate(entries)
            if not (isinstance(entry, dict) and entry.get("iscrowd") == 1)
        ]
        if not found:
            self.fail(where, "at least one person's box", entries)
        return found

    def names(self, content: object, needed: bool) -> dict[int | str, str]:
        """File names of image ids; none where the file is a list of results."""
        if isinstance(content, dict):
            images = content.get("images")
            if images is None:
                self.fail("", "the key images with a list of {id, file_name}", None)
        elif needed:
            images = content
        else:
            return {}
        if not isinstance(images, list):
            self.fail("images", "a list of {id, file_name}", images)
        names: dict[int | str, str] = {}
        for number, image in enumerate(images):
            place = f"images[{number}]"
            if not isinstance(image, dict):
                self.fail(place, "a mapping {id, file_name}", image)
            key, name = self.id(f"{place}.id", image.get("id")), image.get("file_name")
            if not isinstance(name, str) or not _is_name(name):
                self.fail(f"{place}.file_name", "a file's name", name)
            if names.setdefault(key, name) != name:
                self.fail(f"{place}.id", f"an id of its own (that of {names[key]!r} is it)", key)
        return names

    def person_id(self, content: object) -> int | None:
        """The id of the category that is named person; None where there is none."""
        categories = content.get("categories") if isinstance(content, dict) else None
        if categories is None:
            return None
        if not isinstance(categories, list):
            self.fail("categories", "a list of {id, name}", categories)
        for number, category in enumerate(categories):
            place = f"categories[{number}]"
            if not isinstance(category, dict):
                self.fail(place, "a mapping {id, name}", category)
            if not _is_int(category.get("id")):
                self.fail(f"{place}.id", "an integer", category.get("id"))
            if str(category.get("name")).strip().lower() == "person":
                return category["id"]
        return None

    def id(self, place: str, value: object) -> int | str:
        if not isinstance(value, int | str) or isinstance(value, bool):
            self.fail(place, "an integer or text", value)
        return value

    def entry(self, place: str, entry: object, names: dict[int | str, str]) -> _Entry:
        if not isinstance(entry, dict):
            self.fail(place, "a mapping {image_id, bbox, score}", entry)
        image = self.id(f"{place}.image_id", entry.get("image_id"))
        name = names.get(image, image)
        if not isinstance(name, str) or (image not in names and names):
            self.fail(
                f"{place}.image_id",
                "an id that images lists"
                if names
                else "a file's name, or a second file with the "
                "key images that gives every id its file name",
                image,
            )
        if not _is_name(name):
            self.fail(f"{place}.image_id", "a file's name", name)
        category = entry.get("category_id")
        if category is not None and not _is_int(category):
            self.fail(f"{place}.category_id", "an integer", category)
        return _Entry(place, name, self.box(place, entry), category)

    def box(self, place: str, entry: dict) -> Box:
        numbers = entry.get("bbox")
        found = [_finite(value) for value in numbers] if isinstance(numbers, list) else []
        values = [value for value in found if value is not None]
        if not len(found) == len(values) == 4:
            self.fail(f"{place}.bbox", "four finite numbers [x, y, width, height]", numbers)
        x, y, width, height = values
        if width < 0 or height < 0:
            self.fail(f"{place}.bbox", "a width and a height that are not negative", numbers)
        score = _finite(entry.get("score"))
        if score is None and entry.get("score") is not None:
            self.fail(f"{place}.score", "a finite number", entry["score"])
        return Box(x, y, width, height, score)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_name(text: str) -> bool:
    return bool(text) and os.path.basename(os.path.normpath(text)) not in ("", ".", "..")


def _finite(value: object) -> float | None:
    """The number as a float; None where it is none, or no finite one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value) + 0.0  # -0.0 and 0.0 are one place
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
