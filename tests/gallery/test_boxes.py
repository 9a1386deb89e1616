"""Persons' boxes: what detectors write, what is refused, which file a name fits."""

import json

import hypothesis
import hypothesis.strategies as st
import pytest

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.gallery.boxes import Box, Boxes, read_boxes

GOOD = {"image_id": "a.jpg", "bbox": [1, 2, 30, 40], "score": 0.5, "category_id": 1}
IMAGES = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "in/b.jpg"}]


@pytest.fixture
def read(tmp_path):
    """A function: what a file holds -> boxes; a text is written as it is."""

    def call(content, images=None, **options):
        path = tmp_path / "boxes.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        if images is not None:
            (tmp_path / "images.json").write_text(json.dumps(images))
            options["images_path"] = str(tmp_path / "images.json")
        return read_boxes(str(path), **options)

    return call


def test_a_list_of_detections(read):
    boxes = read([GOOD, GOOD | {"bbox": [0.5, 0, 9, 9], "score": 1}, GOOD | {"image_id": "b.jpg"}])
    assert boxes.of("/x/a.jpg") == [Box(0.5, 0, 9, 9, 1.0), Box(1, 2, 30, 40, 0.5)]
    assert len(boxes.of("/b.jpg")) == 1 and boxes.of("/c.jpg") == []


def test_a_dictionary_with_images_and_annotations(read):
    entries = [{"image_id": 2, "bbox": [1, 2, 30, 40], "category_id": 1}]
    boxes = read({"images": IMAGES, "annotations": entries})
    assert boxes.of("/x/in/b.jpg") == [Box(1, 2, 30, 40, None)] and boxes.of("/x/a.jpg") == []


@pytest.mark.parametrize("images", [IMAGES, {"images": IMAGES}])
def test_numbers_are_explained_by_another_file(read, images):
    assert read([GOOD | {"image_id": 2}], images).of("/in/b.jpg")


def test_only_persons_count(read):
    entries = [GOOD, GOOD | {"category_id": 3, "bbox": [0, 0, 9, 9]}]
    assert len(read(entries).of("/a.jpg")) == 1
    named = {"categories": [{"id": 3, "name": "person"}, {"id": 1, "name": "car"}]}
    content = named | {"images": IMAGES, "annotations": [e | {"image_id": 1} for e in entries]}
    assert read(content).of("/a.jpg") == [Box(0, 0, 9, 9, 0.5)]


def test_uncertain_boxes_are_left_out(read):
    entries = [GOOD, GOOD | {"bbox": [0, 0, 9, 9], "score": 0.9}]
    assert len(read(entries, min_score=0.6).of("/a.jpg")) == 1


def test_the_same_box_twice_counts_once(read):
    assert len(read([GOOD, GOOD]).of("/a.jpg")) == 1


@pytest.mark.parametrize(
    "name, path, fits",
    [
        ("a.jpg", "/x/a.jpg", True),
        ("in/a.jpg", "/x/in/a.jpg", True),
        ("./in//a.jpg", "/x/in/a.jpg", True),
        ("in\\a.jpg", "/x/in/a.jpg", True),
        ("/x/in/a.jpg", "/x/in/a.jpg", True),
        ("/y/in/a.jpg", "/x/in/a.jpg", False),
        ("n/a.jpg", "/x/in/a.jpg", False),
        ("a", "/x/in/a.jpg", False),
        ("A.jpg", "/x/a.jpg", False),
    ],
)
def test_names_are_compared_by_whole_parts(name, path, fits):
    boxes = Boxes({name: [Box(0, 0, 9, 9, None)]}, "x", "")
    assert bool(boxes.of(path)) == fits
    assert boxes.unmatched() == ([] if fits else [name])


def test_the_longest_name_counts():
    one, two = Box(0, 0, 9, 9, None), Box(1, 0, 9, 9, None)
    boxes = Boxes({"a.jpg": [one], "in/a.jpg": [two]}, "x", "")
    assert boxes.of("/in/a.jpg") == [two] and boxes.of("/a.jpg") == [one]


def test_a_name_that_fits_two_files_is_refused():
    boxes = Boxes({"a.jpg": [Box(0, 0, 9, 9, None)]}, "x.json", "")
    boxes.of("/x/a.jpg")
    boxes.of("/x/a.jpg")
    with pytest.raises(UsageError, match="fits both '/x/a.jpg' and '/y/a.jpg'"):
        boxes.of("/y/a.jpg")


@pytest.mark.parametrize(
    "content, says",
    [
        ("", "expected JSON"),
        ("{", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("[1" + "0" * 5000 + "]", "expected JSON"),
        ("3", "expected a list"),
        ("{}", "expected a list"),
        ("[]", "at least one"),
        ([3], "entry 0: expected an object, found int"),
        ([GOOD, {}], "entry 1: expected image_id"),
        ([GOOD | {"image_id": 7}], "is the number 7"),
        ([GOOD | {"image_id": True}], "expected image_id"),
        ([GOOD | {"image_id": ""}], "expected image_id"),
        ([GOOD | {"image_id": [1]}], "expected image_id"),
        ([GOOD | {"bbox": None}], "expected bbox"),
        ([GOOD | {"bbox": [1, 2, 3]}], "expected bbox"),
        ([GOOD | {"bbox": [1, 2, 3, "4"]}], "expected bbox"),
        ([GOOD | {"bbox": [1, 2, 3, True]}], "expected bbox"),
        ('[{"image_id": "a", "bbox": [NaN, 0, 9, 9]}]', "expected bbox"),
        ('[{"image_id": "a", "bbox": [0, 0, Infinity, 9]}]', "expected bbox"),
        ([GOOD | {"bbox": [1, 2, 0, 4]}], "a width of 0"),
        ([GOOD | {"bbox": [1, 2, 3, -4]}], "a height of -4"),
        ([GOOD | {"score": 2}], "score from 0 to 1"),
        ([GOOD | {"score": "high"}], "score from 0 to 1"),
        ({"images": 3, "annotations": [GOOD]}, 'a list under "images"'),
        ({"images": [{"id": 1}], "annotations": [GOOD]}, "image 0: expected"),
        ({"images": [{"id": [], "file_name": "a"}], "annotations": [GOOD]}, "image 0: expected"),
        (
            {"images": [IMAGES[0], {"id": 1, "file_name": "b"}], "annotations": []},
            "the id 1 is there twice",
        ),
    ],
)
def test_what_is_malformed_is_refused(read, content, says):
    with pytest.raises(UsageError, match=says) as caught:
        read(content)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_one_that_is_no_text_are_refused(read, tmp_path):
    with pytest.raises(MissingFileError, match="--boxes=.*there is no such file"):
        read_boxes(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="cannot be read"):
        read_boxes(str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UsageError, match="expected JSON"):
        read_boxes(str(tmp_path / "binary"))


KEYS = st.sampled_from(
    ["image_id", "bbox", "score", "category_id", "images", "annotations", "categories", "id"]
    + ["file_name", "name"]
)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("person")
JSON = st.recursive(
    VALUES | st.lists(st.floats(0, 99), min_size=4, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@hypothesis.settings(max_examples=300)
@hypothesis.given(JSON, st.booleans())
def test_any_json_gives_boxes_or_one_line(tmp_path_factory, content, explains):
    folder = tmp_path_factory.mktemp("boxes")
    (folder / "b.json").write_text(json.dumps(content))
    images = str(folder / "b.json") if explains else None
    try:
        boxes = read_boxes(str(folder / "b.json"), images_path=images)
    except UsageError as err:
        assert str(err).startswith("--boxes")
        return
    for name in boxes.unmatched():
        assert all(box.width > 0 for box in boxes.of(f"/{name}"))
