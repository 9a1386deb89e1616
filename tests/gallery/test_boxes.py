"""Boxes files of any detector: the right persons for each picture, or one clear error."""

import json
import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.gallery.boxes import Box, Boxes, read_boxes

BBOX = [10, 20, 30.5, 40]
BOX = Box((10.0, 20.0, 30.5, 40.0), None)


def result(name="a.jpg", bbox=BBOX, **fields) -> dict:
    return {"image_id": name, "bbox": bbox, **fields}


def images(*names) -> list[dict]:
    return [{"id": n, "file_name": name, "width": 640} for n, name in enumerate(names)]


@pytest.fixture
def read(tmp_path):
    def write_and_read(content, *args, **options) -> Boxes:
        path = tmp_path / "boxes.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_boxes(path, *args, **options)

    return write_and_read


def of(boxes: Boxes, *paths) -> list:
    boxes.match(paths)
    return [boxes.of(path) for path in paths]


def test_a_detectors_results_are_read_by_file_name(read):
    first = result(score=0.5, category_id=1)
    boxes = read([first, result("b.jpg", [1, 2, 3, 4], score=0.75, category_id=1)])
    assert of(boxes, "/x/a.jpg", "/x/b.jpg", "/x/c.jpg") == [
        [Box((10.0, 20.0, 30.5, 40.0), 0.5)],
        [Box((1.0, 2.0, 3.0, 4.0), 0.75)],
        [],
    ]


def test_a_mapping_with_images_and_annotations_is_read(read):
    boxes = read({"images": images("a.jpg", "b.jpg"), "annotations": [result(1)], "info": {}})
    assert of(boxes, "/x/a.jpg", "/x/b.jpg") == [[], [BOX]]
    assert boxes.unmatched() == []


@pytest.mark.parametrize("wrap", [lambda found: found, lambda found: {"images": found}])
def test_numbered_results_take_their_names_from_a_second_file(read, tmp_path, wrap):
    second = tmp_path / "images.json"
    second.write_text(json.dumps(wrap(images("a.jpg", "b.jpg"))))
    assert of(read([result(1)], images_path=second), "/x/b.jpg") == [[BOX]]


def test_boxes_are_sorted_and_no_place_comes_twice(read):
    content = [
        result(bbox=[5, 1, 9, 9], score=0.5),
        result(bbox=[1, 7, 9, 9], score=0.25),
        result(bbox=[5, 1, 9, 9], score=0.75),
        result("./a.jpg", bbox=[5.0, 1, 9, 9], score=0.5),
        result(bbox=[-0.0, 1, 9, 9]),
        result(bbox=[0, 1, 9, 9]),
    ]
    (found,) = of(read(content), "/x/a.jpg")
    assert [(box.sides[:2], box.score) for box in found] == [
        ((0.0, 1.0), None),
        ((1.0, 7.0), 0.25),
        ((5.0, 1.0), 0.75),
    ]


def test_boxes_below_the_minimal_score_are_left_out_and_those_without_one_stay(read):
    content = [result(bbox=[n, 0, 9, 9], score=n / 4) for n in range(4)] + [result()]
    assert [box.score for box in of(read(content, 0.5), "/a.jpg")[0]] == [0.5, 0.75, None]


@pytest.mark.parametrize(
    ("named", "ids", "kept"),
    [
        ((), [0, 1, 2], [1]),
        (("cat", "dog", " person"), [0, 2, 1, 2], [1, 3]),
    ],
)
def test_only_persons_are_kept(read, named, ids, kept):
    entries = [
        result(0, [n, 0, 9, 9]) | ({} if number is None else {"category_id": number})
        for n, number in enumerate(ids)
    ]
    categories = [{"id": n, "name": name} for n, name in enumerate(named)]
    content = {"images": images("a.jpg"), "annotations": entries, "categories": categories}
    assert [box.sides[0] for box in of(read(content), "/x/a.jpg")[0]] == kept


def test_a_region_of_a_crowd_is_no_person(read):
    content = [result(iscrowd=0), result(bbox=[0, 0, 500, 500], iscrowd=1)]
    assert of(read(content), "/a.jpg") == [[BOX]]


@pytest.mark.parametrize(
    ("name", "file", "fits"),
    [
        ("/x/a.jpg", "/x/a.jpg", True),
        ("x/a.jpg", "/y/x/a.jpg", True),
        ("x/a", "/y/x/a.jpg", True),  # detectors leave the ending out
        ("/other/a.jpg", "/y/x/a.jpg", True),
        ("b.jpg", "/x/ab.jpg", False),
        ("x/b.jpg", "/ax/c.jpg", False),
        ("Zu\u0308rich.jpg", "/x/Z\u00fcrich.jpg", True),
    ],
)
def test_names_fit_by_whole_components_or_by_their_base_name(read, name, file, fits):
    boxes = read([result(name)])
    assert of(boxes, file) == [[BOX] if fits else []]
    assert boxes.unmatched() == ([] if fits else [name])


@pytest.mark.parametrize("order", [1, -1])
def test_the_best_name_counts_whatever_the_order_of_the_pictures(read, order):
    content = [result("one/a.jpg", [2, 1, 9, 9]), result("b.jpg", [1, 2, 3, 4])]
    files = ["/x/one/a.jpg", "/x/two/a.jpg", "/x/b.jpg"][::order]
    counts = dict(zip(files, map(len, of(read(content), *files)), strict=True))
    assert counts == {"/x/one/a.jpg": 1, "/x/two/a.jpg": 0, "/x/b.jpg": 1}
    content.append(result("a.jpg", [1, 1, 9, 9]))
    found = of(read(content), "/x/one/a.jpg", "/x/two/a.jpg")
    assert [boxes[0].sides[0] for boxes in found] == [2, 1]


def test_a_base_name_that_two_entries_share_stands_for_neither(read):
    boxes = read([result("one/a.jpg"), result("two/a.jpg")])
    assert of(boxes, "/x/three/a.jpg") == [[]]
    assert boxes.unmatched() == ["one/a.jpg", "two/a.jpg"]


@pytest.mark.parametrize("name", ["a.jpg", "a", "three/a.jpg"])
def test_a_name_that_fits_two_pictures_is_refused(read, name):
    with pytest.raises(UsageError) as caught:
        read([result(name)]).match(["/x/one/a.jpg", "/x/two/a.jpg"])
    for part in ("boxes.json", repr(name), "/x/one/a.jpg", "/x/two/a.jpg"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({}, "images in COCO's format; it cannot be read (KeyError: 'images')"),
        ({"images": images("a") + images("b"), "annotations": [result(0)]}, "have one id"),
        ({"images": images("a.jpg"), "annotations": [result(0), result(5)]}, "box 1: "),
        ([result(), result("")], "box 1: "),
        ([{"image_id": "a.jpg"}], "KeyError: 'bbox'"),
        ([result(bbox=[1, 2, 3, math.nan])], "expected finite numbers"),
        ([result(score="high")], "could not convert string to float: 'high'"),
        ([result(category_id=0), result(category_id=2)], "none of its 2 boxes is one"),
    ],
)
def test_a_malformed_file_is_refused_naming_file_entry_and_field(read, content, named):
    with pytest.raises(UsageError) as caught:
        read(content)
    message = str(caught.value)
    assert "boxes.json" in message and named in message
    assert len(message) < 400 and len(message.splitlines()) == 1


def test_a_file_that_is_not_there_or_without_end_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match="none.json: expected persons' boxes"):
        read_boxes(tmp_path / "none.json")
    with pytest.raises(UsageError, match="got a pipe or a device"):
        read_boxes("/dev/zero")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
ENTRY = ANY | st.fixed_dictionaries(
    {"image_id": st.just(0) | st.just("a.jpg") | ANY, "bbox": st.just(BBOX) | ANY},
    optional={"score": st.just(0.5) | ANY, "category_id": st.just(1) | ANY},
)
IMAGE = ANY | st.fixed_dictionaries({"id": st.just(0) | ANY, "file_name": st.just("a.jpg") | ANY})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ANY
    | st.lists(ENTRY, min_size=1, max_size=3)
    | st.fixed_dictionaries(
        {"images": ANY | st.lists(IMAGE, max_size=3), "annotations": st.lists(ENTRY, max_size=3)},
        optional={"categories": ANY | st.lists(ANY)},
    )
)
@example([result("\ud800"), result("\0")])
def test_any_json_gives_boxes_or_a_usage_error(read, content):
    try:
        boxes = read(content)
        (found,) = of(boxes, "/x/a.jpg")
    except UsageError as err:
        str(err).encode()
        return
    assert found == sorted(found, key=lambda box: box.sides)
    assert all(math.isfinite(v) for box in found for v in box.sides)
    assert all(isinstance(name, str) for name in boxes.unmatched())
