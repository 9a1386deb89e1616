"""Persons' boxes in COCO's detection format, as detectors write it.

Either the list of results, [{"image_id": "lobby/17.jpg", "bbox": [x, y, width, height],
"score": 0.9, "category_id": 1}, ...], or COCO's dictionary with "images" and "annotations".
`image_id` is a file's name, or a number that a list of images explains. Of several categories only
persons count: the one named "person", or 1 where none is named.
"""

import collections
import hashlib
import json
import os
import pathlib
from typing import Any, NamedTuple

from cada_jax.common.errors import MissingFileError, UsageError

PERSON = 1  # COCO's number


class Box(NamedTuple):
    """A person in a scene, in pixels from the upper left corner. score: in [0,1], None without."""

    x: float
    y: float
    width: float
    height: float
    score: float | None


class Boxes:
    """Boxes by file.

    Args:
      by_name: file name, as the boxes' file writes it -> boxes.
      source: the boxes' file, for messages.
      digest: SHA-256 of it.

    Names are compared by whole components from the right, so "lobby/17.jpg" fits
    "/archive/lobby/17.jpg". The longest name that fits counts.
    """

    def __init__(self, by_name: dict[str, list[Box]], source: str, digest: str):
        self.digest, self._source = digest, source
        self._boxes = {_parts(name): sorted(set(b), key=_order) for name, b in by_name.items()}
        self._names = {_parts(name): name for name in by_name}
        self._ends: dict[str, list[tuple[str, ...]]] = collections.defaultdict(list)
        for parts in self._boxes:
            self._ends[parts[-1]].append(parts)
        self._met: dict[tuple[str, ...], str] = {}

    def of(self, path: str) -> list[Box]:
        """The boxes of a file, from left to right.

        Raises:
          UsageError: its name in the boxes' file fits another file, too.
        """
        parts = _parts(path)
        fitting = [p for p in self._ends[parts[-1]] if parts[-len(p) :] == p]
        if not fitting:
            return []
        name: tuple[str, ...] = max(fitting, key=lambda p: len(p))
        if (other := self._met.setdefault(name, path)) != path:
            raise UsageError(
                f"--boxes={self._source}: {self._names[name]!r} fits both {other!r} and {path!r}: "
                "write more of the path there"
            )
        return self._boxes[name]

    def unmatched(self) -> list[str]:
        """Names that fitted no file that was asked for."""
        return sorted(name for parts, name in self._names.items() if parts not in self._met)


def _order(box: Box) -> tuple:
    return (*box[:4], -1.0 if box.score is None else box.score)


def _parts(name: str) -> tuple[str, ...]:
    return pathlib.PurePosixPath(os.path.normpath(name.replace("\\", "/"))).parts or ("",)


def _load(path: str, flag: str) -> tuple[Any, bytes]:
    try:
        data = pathlib.Path(path).expanduser().read_bytes()
    except FileNotFoundError as err:
        raise MissingFileError(f"{flag}={path}: there is no such file") from err
    except OSError as err:
        raise UsageError(f"{flag}={path} cannot be read: {err.strerror}") from err
    try:
        return json.loads(data), data
    except (ValueError, RecursionError) as err:
        raise UsageError(f"{flag}={path}: expected JSON: {str(err) or 'nested too deep'}") from err


def read_boxes(
    path: str, min_score: float = 0.0, category: int | None = None, images_path: str | None = None
) -> Boxes:
    """Reads a file of boxes; see the module.

    Args:
      path: of the file.
      min_score: boxes that score less are left out.
      category: number of persons; None looks for it.
      images_path: a COCO file whose "images" explain numbers in `image_id`.

    Raises:
      MissingFileError: a file is not there.
      UsageError: an entry is not what it has to be; the message numbers it from 0.
    """
    content, data = _load(path, "--boxes")
    names, categories = {}, []
    if images_path is not None:
        listed, _ = _load(images_path, "--boxes_images")
        names = _image_names(listed, f"--boxes_images={images_path}")
        categories = _list(listed, "categories")
    entries = content
    if isinstance(content, dict):
        entries = content.get("annotations")
        names |= _image_names(content, f"--boxes={path}") if "images" in content else {}
        categories = _list(content, "categories") or categories
    if not isinstance(entries, list):
        raise UsageError(
            f'--boxes={path}: expected a list of detections, or {{"images": [...], "annotations": '
            f"[...]}}, found {type(content).__name__}"
        )
    wanted = _person(categories) if category is None else category
    found: dict[str, list[Box]] = {name: [] for name in names.values()}
    for number, entry in enumerate(entries):
        where = f"--boxes={path}, entry {number}"
        if not isinstance(entry, dict):
            raise UsageError(f"{where}: expected an object, found {type(entry).__name__}")
        name, box = _name(entry, names, where), _box(entry, where)
        if entry.get("category_id", wanted) == wanted and not _below(box.score, min_score):
            found.setdefault(name, []).append(box)
    if not found:
        raise UsageError(f"--boxes={path}: expected at least one detection, found none")
    return Boxes(found, path, hashlib.sha256(data).hexdigest())


def _below(score: float | None, least: float) -> bool:
    return score is not None and score < least


def _list(content: Any, key: str) -> list:
    value = content.get(key) if isinstance(content, dict) else None
    return value if isinstance(value, list) else []


def _person(categories: list) -> int:
    named = [c.get("id") for c in categories if isinstance(c, dict) and c.get("name") == "person"]
    return next((id for id in named if isinstance(id, int)), PERSON)


def _image_names(content: Any, where: str) -> dict[int | str, str]:
    """Number -> file name, of COCO's "images"."""
    images = content.get("images") if isinstance(content, dict) else content
    if not isinstance(images, list):
        raise UsageError(f'{where}: expected a list under "images"')
    names = {}
    for number, image in enumerate(images):
        id, name = (image.get("id"), image.get("file_name")) if isinstance(image, dict) else (0, 0)
        if not isinstance(id, int | str) or not isinstance(name, str) or not name:
            raise UsageError(
                f'{where}, image {number}: expected {{"id": ..., "file_name": "..."}}, found '
                f"{str(image)[:80]}"
            )
        if names.setdefault(id, name) != name:
            raise UsageError(f"{where}, image {number}: the id {id!r} is there twice")
    return names


def _name(entry: dict, names: dict, where: str) -> str:
    id = entry.get("image_id", entry.get("file_name"))
    if isinstance(id, int | str) and id in names:
        return names[id]
    if isinstance(id, str) and id:
        return id
    if isinstance(id, int) and not isinstance(id, bool):
        raise UsageError(
            f"{where}: image_id is the number {id}, and no list of images names its file: give "
            "--boxes_images=FILE, or file names as image_id"
        )
    raise UsageError(f"{where}: expected image_id, a file's name or number, found {id!r:.80}")


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e9  # NaN and infinity are not


def _box(entry: dict, where: str) -> Box:
    values, score = entry.get("bbox"), entry.get("score")
    if not isinstance(values, list) or len(values) != 4 or not all(map(_is_number, values)):
        raise UsageError(f"{where}: expected bbox [x, y, width, height], found {values!r:.80}")
    x, y, width, height = map(float, values)
    if width <= 0 or height <= 0:
        raise UsageError(f"{where}: bbox has a width of {width} and a height of {height}")
    if score is not None and (not _is_number(score) or not 0 <= score <= 1):
        raise UsageError(f"{where}: expected a score from 0 to 1, found {score!r:.80}")
    return Box(x, y, width, height, None if score is None else float(score))
