"""Writes pictures of generated people, to try on them what is done with one's own photos.

    cada sample photos

    photos/people/cam1/...   300 pictures of 60 persons, by four cameras, with times in their EXIF
    photos/scenes/...        20 pictures of several persons
    photos/boxes.json        where the persons of the scenes are, as COCO has it
    photos/captions.csv      two captions of each picture of people: image, caption, id, split

pretrained:synthetic knows such people, and has not seen these:

    cada index --model=pretrained:synthetic --images=photos/people --db=people.db
    cada index --model=pretrained:synthetic --images=photos/scenes --boxes=photos/boxes.json ...
    cada prepare --dataset=folder --source=photos --captions=photos/captions.csv
"""

import csv
import datetime
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cada_jax.common.command_line import DONE, Flags, run_command
from cada_jax.common.files import local_path, whole_folder
from cada_jax.data.datasets.synthetic.drawing import HEIGHT, WIDTH
from cada_jax.data.datasets.synthetic.people import DEMO, Example, generate
from cada_jax.data.datasets.synthetic.scene import draw_background

PERSONS = {"train": 40, "val": 10, "test": 10}
CAMERAS = 4
SCENES, MOST_IN_SCENE = 20, 4
_MODEL, _TAKEN = 0x0110, 0x0132  # EXIF tags: the camera's name, and when the picture was changed
_DAY = datetime.datetime(2026, 5, 4, 8)


def write_sample(folder: Path) -> None:
    """Writes the sample; the same bytes whenever it is called.

    Raises:
      UsageError: something lies there already.
    """
    with whole_folder(folder, False, lambda path: False, "a folder of sample pictures") as place:
        people = list(_people())
        rows = []
        for split, pid, example in people:
            camera = 1 + (pid + example.image) % CAMERAS
            path = place / "people" / f"cam{camera}" / f"{pid:05d}_{example.image + 1}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            taken = _DAY + datetime.timedelta(minutes=7 * pid + 95 * example.image)
            path.write_bytes(_with_exif(example.jpeg, f"cam{camera}", taken))
            image = path.relative_to(place).as_posix()
            rows += [(image, caption.text, pid, split) for caption in example.captions]
        with open(place / "captions.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("image", "caption", "id", "split"), *rows])
        (place / "scenes").mkdir()
        boxes = _write_scenes(place / "scenes", [example for _, _, example in people])
        (place / "boxes.json").write_text(json.dumps(boxes, indent=1) + "\n", encoding="utf-8")


def _people() -> Iterator[tuple[str, int, Example]]:
    """(split, number of the person, example), persons of the demo's test split."""
    first, last = DEMO.first_pid("test"), sum(PERSONS.values())
    splits = [split for split, number in PERSONS.items() for _ in range(number)]
    for example in generate(DEMO, "test"):
        if example.person == last:
            return
        yield splits[example.person], first + example.person, example


def _with_exif(jpeg: bytes, camera: str, taken: datetime.datetime) -> bytes:
    """A JPEG file with a camera's name and a time, its pixels untouched."""
    exif = Image.Exif()
    exif[_MODEL], exif[_TAKEN] = camera, taken.strftime("%Y:%m:%d %H:%M:%S")
    block = exif.tobytes()
    return jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2) + block + jpeg[2:]


def _write_scenes(folder: Path, people: Sequence[Example]) -> dict:
    """Writes pictures of two to four persons side by side; returns their boxes as COCO has them."""
    rng = np.random.default_rng(0)
    images, boxes = [], []
    for number in range(1, SCENES + 1):
        size = (WIDTH * (MOST_IN_SCENE + 1), HEIGHT + 24)
        scene = Image.new("RGB", size)
        draw_background(ImageDraw.Draw(scene), *size, number, DEMO.world.look)
        name = f"scene{number:02d}.jpg"
        images.append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
        chosen = rng.permutation(len(people))[: rng.integers(2, MOST_IN_SCENE + 1)]
        left = int(rng.integers(12))
        for example in (people[i] for i in chosen):
            top = int(rng.integers(25))
            scene.paste(Image.open(io.BytesIO(example.jpeg)), (left, top))
            box = {"id": len(boxes) + 1, "image_id": number, "category_id": 1}
            boxes.append(box | {"bbox": [left, top, WIDTH, HEIGHT]})
            left += WIDTH + int(rng.integers(12))
        scene.save(folder / name, quality=95, subsampling=0)
    people_only = [{"id": 1, "name": "person"}]
    return {"images": images, "annotations": boxes, "categories": people_only}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""

    def work() -> int:
        parser = Flags("cada_jax sample", __doc__)
        parser.add_argument("folder", metavar="DIR", help="folder to make")
        folder = local_path(parser.parse_args(argv).folder)
        write_sample(folder)
        print(f"Wrote {folder}/people, scenes, boxes.json and captions.csv")
        return DONE

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
