"""Finds persons in pictures of whole scenes, by a detector of `transformers`, as COCO JSON.

The file can be looked at, edited, and given back as --boxes. A picture that it holds with the same
size and time is not looked at again, so what was edited stays.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from cada_jax.checkpoints.hub import PREFIX, snapshot
from cada_jax.common.errors import UsageError, needs_extra, reading
from cada_jax.common.files import read_json, write_json
from cada_jax.common.images import read_rgb
from cada_jax.gallery.photo import LEAST_SIDE

LEAST_SCORE = 0.5
FILES = ["*.json", "*.safetensors"]  # that a detector of the hub consists of
AT_ONCE = 8  # pictures in a pass of the detector
KEPT_EVERY = 400  # pictures after which the file is written
PERSON = {"id": 1, "name": "person"}
_WHAT = "boxes that a detector found"

Entry = tuple[dict[str, Any], list[dict[str, Any]]]  # of COCO's images, and its annotations


class Detector:
    """A model of `AutoModelForObjectDetection` that knows persons, as hf:PekingU/rtdetr_r18vd."""

    def __init__(self, name: str):
        """Loads it from a folder, or from the Hugging Face hub as "hf:OWNER/NAME".

        Raises:
          UsageError: the extra `detect` is not installed, this is no detector, or one that knows no
            persons.
        """
        with needs_extra("detect"):
            import torch  # noqa: F401  (without it transformers offers nothing)
            from transformers import AutoImageProcessor, AutoModelForObjectDetection
        source = snapshot(name, FILES) if name.startswith(PREFIX) else name
        with reading(name, "a detector of transformers, as hf:PekingU/rtdetr_r18vd"):
            self._processor = AutoImageProcessor.from_pretrained(source)
            self._model = AutoModelForObjectDetection.from_pretrained(source).eval()
        labels = self._model.config.id2label.items()
        self._persons = [int(i) for i, label in labels if label.lower() == "person"]
        if not self._persons:
            raise UsageError(f"{name}: expected a detector of persons; it has no label 'person'")

    def find(self, pictures: Sequence[np.ndarray], least: float) -> Iterator[list[dict]]:
        """Yields the persons of every picture as COCO's annotations: bbox in pixels, score.

        Args:
          pictures: uint8 [H,W,3], of any sizes.
          least: score.
        """
        import torch

        sizes = [picture.shape[:2] for picture in pictures]
        with torch.inference_mode():
            inputs = self._processor(images=list(pictures), return_tensors="pt")
            outputs = self._model(**inputs)
        found = self._processor.post_process_object_detection(outputs, least, sizes)
        for (height, width), of_picture in zip(sizes, found, strict=True):
            is_person = np.isin(of_picture["labels"].numpy(), self._persons)
            corners = of_picture["boxes"].numpy()[is_person].clip(0, (width, height) * 2)
            boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).astype(float)
            shows = boxes[:, 2:].min(axis=1, initial=np.inf) >= LEAST_SIDE
            boxes, scores = boxes[shows], of_picture["scores"].numpy()[is_person][shows]
            yield [
                {"bbox": box.round(1).tolist(), "score": round(float(score), 4), "category_id": 1}
                for box, score in zip(boxes, scores, strict=True)
            ]


def detect_persons(
    model: str,
    paths: Iterable[str],
    boxes: str | os.PathLike,
    progress: Callable[[Iterable, int, str], Iterable] = lambda pictures, total, title: pictures,
) -> None:
    """Brings a file of boxes up to date with pictures; those that cannot be read are left out.

    Args:
      model: as of `Detector`; loaded only if a picture is new.
      paths: absolute, of picture files.
      boxes: the file: made if missing, or what this wrote before.
      progress: progress(pictures, total, title) yields the pictures.

    Raises:
      UsageError: as of `Detector`; the file holds something else.
    """
    known = _read(boxes)
    states = {path: _state(path) for path in paths if os.path.isfile(path)}
    entries = {path: e for path, e in known.items() if states.get(path) == e[0].get("state")}
    new = [path for path in states if path not in entries]
    if new:
        detector = Detector(model)
        readable = filter(None, progress(map(_picture, new), len(new), "detecting persons"))
        for number in itertools.count(1):
            some = list(itertools.islice(readable, AT_ONCE))
            if not some:
                break
            persons = detector.find([pixels for _, pixels in some], LEAST_SCORE)
            for (path, pixels), found in zip(some, persons, strict=True):
                size = {"height": pixels.shape[0], "width": pixels.shape[1]}
                entries[path] = ({"file_name": path, **size, "state": states[path]}, found)
            if number * AT_ONCE % KEPT_EVERY == 0:
                _write(boxes, entries)
    if entries != known:
        _write(boxes, entries)


def _picture(path: str) -> tuple[str, np.ndarray] | None:
    try:
        return path, read_rgb(path)
    except UsageError:
        return None  # the index says why


def _state(path: str) -> list[int]:
    """What changes when a file does: bytes, and nanoseconds of its last change."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


def _read(path: str | os.PathLike) -> dict[str, Entry]:
    """The pictures of a file by path, empty where there is none."""
    if not os.path.exists(path):
        return {}
    coco = read_json(path, _WHAT)
    with reading(path, f"{_WHAT}: images and annotations"):
        entries = {image.pop("id"): (image, []) for image in coco["images"]}
        for box in coco["annotations"]:
            entries[box.pop("image_id")][1].append(box)
            box.pop("id", None)
        return {image["file_name"]: (image, found) for image, found in entries.values()}


def _write(path: str | os.PathLike, entries: dict[str, Entry]) -> None:
    images, boxes = [], []
    for number, name in enumerate(sorted(entries), 1):
        image, found = entries[name]
        images.append({"id": number, **image})
        boxes += [{"image_id": number, **box} for box in found]
    numbered = [{"id": number, **box} for number, box in enumerate(boxes, 1)]
    write_json(path, {"images": images, "annotations": numbered, "categories": [PERSON]})
