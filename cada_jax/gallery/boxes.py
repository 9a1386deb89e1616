"""Persons' boxes of whole scenes, from a file in COCO's format, by picture file.

Format: https://cocodataset.org/#format-data (a mapping with `images` and `annotations`) and
https://cocodataset.org/#format-results (a list of what a detector found).
"""

import collections
import math
import os
import pathlib
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

from cada_jax.common.errors import UsageError, reading
from cada_jax.common.files import read_json

PERSON = 1  # category_id of a person in COCO
_Name = tuple[str, ...]  # the parts of a path


class Box(NamedTuple):
    """A person's place in a scene: pixels from the upper left corner of the upright picture.

    sides: x, y, width, height, all finite, the sizes not negative; score: the detector's, None
    where the file states none.
    """

    sides: tuple[float, float, float, float]
    score: float | None


class Boxes:
    """Persons' boxes by picture file.

    A name of the boxes file belongs to the picture whose path is that name, or ends in it by whole
    components: `cam1/7.jpg` and `cam1/7` belong to `/photos/cam1/7.jpg`. Of several such names the
    longest does. A picture without one takes the name that has its base name, if the boxes file
    has only one and no other picture has it by its path.

    Args:
      boxes: by file name.
      source: the boxes file, for messages.
    """

    def __init__(self, boxes: dict[str, list[Box]], source: str | os.PathLike):
        self._source = os.fspath(source)
        self._names = {_parts(name): name for name in boxes}
        self._boxes: dict[_Name, list[Box]] = collections.defaultdict(list)
        for name, found in boxes.items():
            self._boxes[_parts(name)] += found
        self._by_base: dict[str, list[_Name]] = collections.defaultdict(list)
        for key in self._names:
            self._by_base[key[-1]].append(key)
        self._files: dict[_Name, str] = {}  # whose a name is
        self._keys: dict[str, _Name] = {}  # the name of a file

    def match(self, paths: Iterable[str]) -> None:
        """Finds the names of all the pictures that `of` will be asked for.

        Raises:
          UsageError: one name belongs to two pictures.
        """
        later = []
        for path in paths:
            ends = (whole[start:] for whole in _spelt(path) for start in range(len(whole)))
            key = next((end for end in ends if end in self._names), None)
            later.append(path) if key is None else self._claim(path, key)
        sure = set(self._files)
        for path in later:
            keys = [key for whole in _spelt(path) for key in self._by_base.get(whole[-1], [])]
            if len(keys) == 1 and keys[0] not in sure:
                self._claim(path, keys[0])

    def of(self, path: str) -> list[Box]:
        """The boxes of a picture, in order of place, no place twice: the highest score counts."""
        best: dict[tuple, Box] = {}
        for box in self._boxes.get(self._keys.get(path, ()), ()):
            here = best.setdefault(box.sides, box)
            if (box.score or 0) > (here.score or 0):
                best[box.sides] = box
        return [best[sides] for sides in sorted(best)]

    def unmatched(self) -> list[str]:
        """The names in the boxes file that belong to no picture, sorted."""
        return sorted(name for key, name in self._names.items() if key not in self._files)

    def _claim(self, path: str, key: _Name) -> None:
        other = self._files.setdefault(key, path)
        if other != path:
            raise UsageError(
                f"{self._source}: the name {self._names[key]!r} fits two pictures, {other!r} and "
                f"{path!r}. Write more of the folders before the name, or the absolute path."
            )
        self._keys[path] = key


def _parts(path: str) -> _Name:
    """Components of a path; macOS writes accents as two characters where others write one."""
    return pathlib.PurePosixPath(os.path.normpath(unicodedata.normalize("NFC", path))).parts


def _spelt(path: str) -> tuple[_Name, _Name]:
    """A path as a boxes file may name it: whole, and without the ending of its name."""
    *folders, name = parts = _parts(path)
    return parts, (*folders, os.path.splitext(name)[0])


def read_boxes(
    path: str | os.PathLike, min_score: float = 0.0, images_path: str | os.PathLike | None = None
) -> Boxes:
    """Reads persons' boxes.

    Args:
      path: a JSON file. Either the list of a detector's results, `{image_id, bbox, score,
        category_id}` with file names as `image_id`, or a mapping with `images` and `annotations`.
        `bbox` is [x, y, width, height] in pixels of the upright picture.
      min_score: boxes of a smaller score are left out; those without a score stay.
      images_path: a JSON file with the `images` of a list of results whose `image_id` are numbers.

    Raises:
      MissingFileError: a file does not exist.
      UsageError: a file cannot be read or is malformed; the message names the entry. Or no box of
        a person is left.
    """
    content = read_json(path, "persons' boxes")
    listed = content if images_path is None else read_json(images_path, "a list of images")
    boxes: dict[str, list[Box]] = {}
    with reading(path if images_path is None else images_path, "images in COCO's format"):
        names = {}
        if isinstance(listed, dict) or images_path is not None:
            images = listed["images"] if isinstance(listed, dict) else listed
            names = {image["id"]: _name(image["file_name"]) for image in images}
            boxes = {name: [] for name in names.values()}
            if len(names) < len(images):
                raise ValueError("two images have one id")
    with reading(path, "persons' boxes in COCO's format"):
        entries = content["annotations"] if isinstance(content, dict) else list(content)
        person = _person(content, listed)
    for number, entry in enumerate(entries):
        # What is wrong with it is said by the kind of the error, and the key or value in it.
        with reading(f"{os.fspath(path)}: box {number}", "an entry of COCO's format"):
            name = _name(names[entry["image_id"]] if names else entry["image_id"])
            box = _box(entry)
            found = boxes.setdefault(name, [])
            # Where an entry has no category it is a person's; regions of a crowd are nobody's.
            if entry.get("category_id", person) == person and entry.get("iscrowd") != 1:
                if box.score is None or box.score >= min_score:
                    found.append(box)
    if not any(boxes.values()):
        raise UsageError(
            f"{os.fspath(path)}: expected boxes of persons, category_id {person}, with a score of "
            f"at least {min_score:g}; none of its {len(entries)} boxes is one"
        )
    return Boxes(boxes, path)


def _person(*contents: Any) -> int:
    """The id of the category that is named person."""
    listed = [c for each in contents if isinstance(each, dict) for c in each.get("categories", [])]
    found = [c["id"] for c in listed if str(c["name"]).strip().lower() == "person"]
    return found[0] if found else PERSON


def _name(text: str) -> str:
    if not isinstance(text, str) or os.path.basename(os.path.normpath(text)) in ("", ".", ".."):
        raise ValueError(f"{text!r} names no file; --boxes_images gives numbers their names")
    return text


def _box(entry: dict) -> Box:
    x, y, width, height = (float(side) + 0.0 for side in entry["bbox"])  # -0.0 and 0.0 are one
    score = None if entry.get("score") is None else float(entry["score"])
    if not all(map(math.isfinite, (x, y, width, height, score or 0))) or min(width, height) < 0:
        raise ValueError(f"bbox {entry['bbox']!r:.60}, score {score!r}: expected finite numbers")
    return Box((x, y, width, height), score)
