"""Persons' boxes of whole scenes: which of a boxes file belong to a picture file."""

import hashlib
import json
import os
import pathlib
import unicodedata
from collections.abc import Iterable

from cada_jax.common.errors import UsageError
from cada_jax.gallery.coco import Box, read_coco

__all__ = ["Box", "Boxes", "read_boxes"]


class Boxes:
    """Persons' boxes by picture file.

    A name of the boxes file belongs to the picture whose path is that name, or ends in it by whole
    components: `cam1/7.jpg` belongs to `/photos/cam1/7.jpg`. Of several such names the longest
    does. A picture without one takes the name that has its base name, if the boxes file has only
    one and no other picture has it by its path.

    Attributes:
      digest: SHA-256 of names and boxes, 64 hexadecimal digits.
    """

    def __init__(self, boxes: dict[str, list[Box]], source: str | os.PathLike):
        """Takes boxes by file name; `source` is the boxes file, for messages."""
        self._source = os.fspath(source)
        self._boxes: dict[tuple[str, ...], list[Box]] = {}
        self._names: dict[tuple[str, ...], str] = {}
        for name, found in boxes.items():
            self._boxes.setdefault(_parts(name), []).extend(found)
            self._names.setdefault(_parts(name), name)
        self._boxes = {key: _sorted(found) for key, found in self._boxes.items()}
        self._by_base: dict[str, list[tuple[str, ...]]] = {}
        for key in self._boxes:
            self._by_base.setdefault(key[-1], []).append(key)
        self._files: dict[tuple[str, ...], str] = {}  # whose a name is
        self._sure: set[tuple[str, ...]] = set()  # names found by path, not by base name
        self._keys: dict[str, tuple[str, ...] | None] = {}  # the name of a file
        listed = json.dumps(sorted(self._boxes.items()))
        self.digest = hashlib.sha256(listed.encode()).hexdigest()

    def match(self, file_paths: Iterable[str]) -> None:
        """Finds the names of pictures. Given all of them first, their order does not matter.

        Raises:
          UsageError: one name belongs to two pictures.
        """
        paths = [path for path in file_paths if path not in self._keys]
        later = []
        for path in paths:
            key = self._by_path(path)
            if key is None:
                later.append(path)
            else:
                self._claim(path, key)
                self._sure.add(key)
        for path in later:
            keys = self._by_base.get(_parts(path)[-1], [])
            self._keys[path] = None
            if len(keys) == 1 and keys[0] not in self._sure:
                self._claim(path, keys[0])

    def of(self, file_path: str) -> list[Box]:
        """Returns the boxes of a picture, in order of place, no place twice.

        Args:
          file_path: its absolute path.

        Raises:
          UsageError: its name in the boxes file is also that of another picture asked for before.
        """
        self.match([file_path])
        key = self._keys[file_path]
        return [] if key is None else list(self._boxes[key])

    def unmatched(self) -> list[str]:
        """Returns the names in the boxes file that belong to no picture asked for, sorted."""
        return sorted(name for key, name in self._names.items() if key not in self._files)

    def _by_path(self, path: str) -> tuple[str, ...] | None:
        parts = _parts(path)
        ends = (parts[start:] for start in range(len(parts)))
        return next((end for end in ends if end in self._boxes), None)

    def _claim(self, path: str, key: tuple[str, ...]) -> None:
        other = self._files.setdefault(key, path)
        if other != path:
            raise UsageError(
                f"{self._source}: the name {self._names[key]!r} fits two pictures, {other!r} and "
                f"{path!r}. Write more of the folders before the name, or the absolute path."
            )
        self._keys[path] = key


def _parts(path: str) -> tuple[str, ...]:
    """Components of a path; macOS writes accents as two characters where others write one."""
    return pathlib.PurePosixPath(os.path.normpath(unicodedata.normalize("NFC", path))).parts


def _sorted(boxes: list[Box]) -> list[Box]:
    """Boxes in order of place; of several at one place the one of the highest score."""
    best: dict[tuple, Box] = {}
    for box in boxes:
        here = best.setdefault(box[:4], box)
        if box.score is not None and (here.score is None or box.score > here.score):
            best[box[:4]] = box
    return [best[place] for place in sorted(best)]


def read_boxes(
    path: str | os.PathLike,
    min_score: float = 0.0,
    category: int | None = None,
    images_path: str | os.PathLike | None = None,
) -> Boxes:
    """Reads persons' boxes in the COCO detection format.

    Args:
      path: a JSON file. Either the list of a detector's results, `{image_id, bbox, score,
        category_id}` with file names as `image_id`, or a mapping with `images` and `annotations`.
        `bbox` is [x, y, width, height] in pixels of the upright picture.
      min_score: boxes of a smaller score are left out; those without a score stay.
      category: the `category_id` of persons. By default that of the category named person, else 1.
        Without any `category_id` in the file all boxes are persons'.
      images_path: a JSON file with the `images` of a list of results whose `image_id` are numbers.

    Raises:
      MissingFileError: a file does not exist.
      UsageError: a file cannot be read or is malformed; the message names the entry and its field.
        Or no box of a person is left.
    """
    return Boxes(read_coco(path, min_score, category, images_path), path)
