"""`cada sample`: people, scenes, boxes and captions that the other commands take as they are."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cada_jax.common.images import ORIENTATION, read_rgb
from cada_jax.data.datasets.synthetic import sample
from cada_jax.data.datasets.synthetic.people import DEMO, generate
from cada_jax.data.preparation.captions_file import read_own
from cada_jax.data.preparation.check import notes


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "photos"
    assert sample.main([str(folder)]) == 0
    return folder


def test_it_is_a_set_of_ones_own_without_a_fault(photos):
    source = read_own(photos, photos / "captions.csv")
    assert source.problems == [] and list(notes(source)) == []
    counts = [source.counts(split) for split in ("train", "val", "test")]
    assert counts == [(40, 200, 400), (10, 50, 100), (10, 50, 100)]


def test_a_picture_is_the_drawn_one_with_a_camera_and_a_time(photos):
    path = min((photos / "people").rglob("*.jpg"), key=lambda path: path.name)
    with Image.open(path) as image:
        exif = image.getexif()
    assert exif[0x0110] == path.parent.name and exif[0x0132].startswith("2026:05:")
    assert ORIENTATION not in exif
    np.testing.assert_array_equal(read_rgb(path), read_rgb(next(generate(DEMO, "test")).jpeg))


def test_the_boxes_of_the_scenes_are_where_the_persons_are(photos):
    coco = json.loads((photos / "boxes.json").read_text())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    people = [read_rgb(path).astype(int) for path in (photos / "people").rglob("*.jpg")]
    assert {*names.values()} == {*os.listdir(photos / "scenes")} and len(names) == 20
    for box in coco["annotations"][:6]:
        x, y, width, height = box["bbox"]
        scene = read_rgb(photos / "scenes" / names[box["image_id"]])
        shown = scene[y : y + height, x : x + width]
        assert min(np.abs(shown - person).mean() for person in people) < 3


def test_it_writes_the_same_bytes_again_and_over_nothing(photos, tmp_path, capsys):
    assert sample.main([str(tmp_path / "again")]) == 0
    files = sorted(path for path in photos.rglob("*") if path.is_file())
    for path in files:
        again = tmp_path / "again" / path.relative_to(photos)
        assert again.read_bytes() == path.read_bytes()
    assert sample.main([str(photos)]) == 2
    assert "Nothing was touched" in capsys.readouterr().err


def test_it_needs_neither_jax_nor_tensorflow():
    heavy = "sys.exit(bool({'jax', 'tensorflow'} & {*sys.modules}))"
    code = f"import sys, {sample.__name__} as _; {heavy}"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
