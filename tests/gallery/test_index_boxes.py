"""Scenes with persons' boxes: every box is a picture of its own."""

import json
import os

import numpy as np
import pytest

from cada_jax.common.errors import UsageError
from cada_jax.gallery import boxes as boxes_lib
from tests.gallery.tiny import counts, picture, write_pictures

BOXES = ([0, 0, 12, 20], [10, 5, 12, 30])


@pytest.fixture
def boxes(tmp_path):
    """A function: {name: boxes} -> as `--boxes` reads them."""

    def read(by_name):
        entries = [
            {"image_id": name, "bbox": box, "score": 0.5, "category_id": 1}
            for name, listed in by_name.items()
            for box in listed
        ]
        (tmp_path / "boxes.json").write_text(json.dumps(entries))
        return boxes_lib.read_boxes(str(tmp_path / "boxes.json"))

    return read


def test_every_box_is_a_picture_with_its_place(run, found, photos, boxes, retriever):
    report = run(boxes=boxes({"a.png": BOXES, "in/c.png": BOXES[:1]}))
    assert counts(report) == {"new": 2} and report.pictures == report.encoded == 3
    assert report.without_box == 2
    record, vector, _ = found()[str(photos / "a.png"), (10.0, 5.0, 12.0, 30.0)]
    assert record.box_score == 0.5 and (record.width, record.height) == (24, 40)
    crop = np.asarray(picture(0))[5:35, 10:22]
    expected = retriever.encode_images([crop]).embeddings[0]
    np.testing.assert_allclose(vector, expected, atol=1e-6)


def test_boxes_that_are_added_and_changed_are_encoded_alone(run, found, boxes):
    run(boxes=boxes({"a.png": BOXES[:1]}))
    report = run(boxes=boxes({"a.png": BOXES}))
    assert counts(report) == {"changed": 1} and report.pictures == 2 and report.encoded == 1
    run(boxes=boxes({"a.png": [BOXES[1], [1, 1, 10, 10]]}))
    assert {key[1] for key in found()} == {(10.0, 5.0, 12.0, 30.0), (1.0, 1.0, 10.0, 10.0)}


def test_a_name_of_two_pictures_is_refused_before_anything_is_made(run, photos, boxes, tmp_path):
    write_pictures(photos, ["in/a.png"])
    with pytest.raises(UsageError, match="fits two pictures"):
        run(boxes=boxes({"a.png": BOXES}))
    assert not (tmp_path / "db").exists()


def test_boxes_are_kept_when_none_are_given(run, found, boxes, photos):
    run(boxes=boxes({"a.png": BOXES}))
    report = run()
    assert report.new == 3 and report.unchanged == 1
    assert len([key for key in found() if key[0] == str(photos / "a.png")]) == 2


def test_a_file_whose_boxes_are_gone_is_found_no_more(run, found, boxes):
    run(boxes=boxes({"a.png": BOXES, "b.png": BOXES}))
    run(boxes=boxes({"b.png": BOXES}))
    assert {os.path.basename(key[0]) for key in found()} == {"b.png"}


def test_a_box_outside_is_listed_once_and_the_others_are_indexed(run, found, boxes):
    given = boxes({"a.png": [*BOXES, [20, 0, 90, 90], [500, 0, 90, 90]], "b": [[400, 1, 50, 50]]})
    report = run(boxes=given)
    assert report.pictures == report.encoded == 2
    assert len(report.refused) == 3 and not report.unreadable
    assert report.without_box == 3  # "b" has none that holds a picture
    assert "expected at least 8 x 8" in report.refused[0].reason
    report = run(boxes=given)
    assert counts(report) == {"unchanged": 1} and report.encoded == 0


def test_a_scene_that_was_indexed_whole_becomes_boxes(run, found, boxes):
    run()
    report = run(boxes=boxes({"a.png": BOXES, "b.png": [[400, 1, 50, 50]]}))
    assert counts(report) == {"changed": 1} and report.without_box == 3
    assert {key[1] for key in found()} == {tuple(map(float, box)) for box in BOXES}
