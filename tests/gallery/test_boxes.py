"""Boxes files of any detector: the right persons for each picture, or one clear error."""

import json
import math
import tempfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.gallery.boxes import Box, Boxes, read_boxes

BBOX = [10, 20, 30.5, 40]
BOX = Box(10.0, 20.0, 30.5, 40.0, None)


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


def test_a_detectors_results_are_read_by_file_name(read):
    first = result(score=0.5, category_id=1)
    boxes = read([first, result("b.jpg", [1, 2, 3, 4], score=0.75, category_id=1)])
    assert boxes.of("/x/a.jpg") == [Box(10.0, 20.0, 30.5, 40.0, 0.5)]
    assert boxes.of("/x/b.jpg") == [Box(1.0, 2.0, 3.0, 4.0, 0.75)]
    assert boxes.of("/x/c.jpg") == []


def test_a_mapping_with_images_and_annotations_is_read(read):
    boxes = read({"images": images("a.jpg", "b.jpg"), "annotations": [result(1)], "info": {}})
    assert boxes.of("/x/b.jpg") == [BOX] and boxes.of("/x/a.jpg") == []
    assert boxes.unmatched() == []


@pytest.mark.parametrize("wrap", [lambda found: found, lambda found: {"images": found}])
def test_numbered_results_take_their_names_from_a_second_file(read, tmp_path, wrap):
    second = tmp_path / "images.json"
    second.write_text(json.dumps(wrap(images("a.jpg", "b.jpg"))))
    boxes = read([result(1)], images_path=second)
    assert boxes.of("/x/b.jpg") == [BOX]


def test_boxes_are_sorted_and_no_place_comes_twice(read):
    boxes = read(
        [
            result(bbox=[5, 1, 9, 9], score=0.5),
            result(bbox=[1, 7, 9, 9], score=0.25),
            result(bbox=[5, 1, 9, 9], score=0.75),
            result("./a.jpg", bbox=[5.0, 1, 9, 9], score=0.5),
            result(bbox=[-0.0, 1, 9, 9]),
            result(bbox=[0, 1, 9, 9]),
        ]
    )
    assert boxes.of("/x/a.jpg") == [
        Box(0.0, 1.0, 9.0, 9.0, None),
        Box(1.0, 7.0, 9.0, 9.0, 0.25),
        Box(5.0, 1.0, 9.0, 9.0, 0.75),
    ]


def test_boxes_below_the_minimal_score_are_left_out_and_those_without_one_stay(read):
    content = [result(bbox=[n, 0, 9, 9], score=n / 4) for n in range(4)] + [result()]
    assert [box.score for box in read(content, 0.5).of("/a.jpg")] == [0.5, 0.75, None]
    assert len(read(content).of("/a.jpg")) == 5


def categories(*names) -> list[dict]:
    return [{"id": n, "name": name} for n, name in enumerate(names)]


@pytest.mark.parametrize(
    ("named", "ids", "category", "kept"),
    [
        (None, [None, None], None, [0, 1]),
        (None, [0, 1, 2], None, [1]),
        (None, [0, 1, 2], 2, [2]),
        (categories("Person", "dog"), [0, 1], None, [0]),
        (categories("cat", "dog", " person"), [0, 2, 1, 2], None, [1, 3]),
        (categories("cat", "pedestrian"), [0, 1], None, [1]),
        (categories("person", "dog"), [0, 1], 1, [1]),
        (categories("dog"), [None], None, [0]),
    ],
)
def test_only_persons_are_kept(read, named, ids, category, kept):
    entries = [
        result(0, [n, 0, 9, 9]) | ({} if number is None else {"category_id": number})
        for n, number in enumerate(ids)
    ]
    content = {"images": images("a.jpg"), "annotations": entries}
    boxes = read(content | ({"categories": named} if named else {}), category=category)
    assert [box.x for box in boxes.of("/x/a.jpg")] == kept


def test_a_region_of_a_crowd_is_no_person(read):
    boxes = read([result(iscrowd=0), result(bbox=[0, 0, 500, 500], iscrowd=1)])
    assert boxes.of("/a.jpg") == [BOX]


@pytest.mark.parametrize(
    ("name", "file", "fits"),
    [
        ("a.jpg", "/x/a.jpg", True),
        ("/x/a.jpg", "/x/a.jpg", True),
        ("/x/./b/../a.jpg", "/x/a.jpg", True),
        ("x/a.jpg", "/y/x/a.jpg", True),
        ("./x//a.jpg", "/y/x/a.jpg", True),
        ("other/a.jpg", "/y/x/a.jpg", True),
        ("/other/a.jpg", "/y/x/a.jpg", True),
        ("../a.jpg", "/y/a.jpg", True),
        ("b.jpg", "/x/ab.jpg", False),
        ("x/b.jpg", "/ax/c.jpg", False),
        ("a.JPG", "/x/a.jpg", False),
        ("Zu\u0308rich.jpg", "/x/Z\u00fcrich.jpg", True),
        ("a%20b #?+;'\".jpg", "/x/a%20b #?+;'\".jpg", True),
        ("two\nlines.jpg", "/x/two\nlines.jpg", True),
    ],
)
def test_names_fit_by_whole_components_or_by_their_base_name(read, name, file, fits):
    boxes = read([result(name)])
    assert boxes.of(file) == ([BOX] if fits else [])
    assert boxes.unmatched() == ([] if fits else [name])


@pytest.mark.parametrize("order", [1, -1])
def test_a_name_found_by_its_path_goes_to_no_picture_of_the_same_base_name(read, order):
    boxes = read([result("one/a.jpg"), result("b.jpg", [1, 2, 3, 4])])
    files = ["/x/one/a.jpg", "/x/two/a.jpg", "/x/b.jpg"][::order]
    boxes.match(files)
    assert {file: len(boxes.of(file)) for file in files} == dict(
        zip(["/x/one/a.jpg", "/x/two/a.jpg", "/x/b.jpg"], [1, 0, 1], strict=True)
    )


def test_the_longest_of_several_names_is_the_pictures(read):
    boxes = read([result("a.jpg", [1, 1, 9, 9]), result("one/a.jpg", [2, 1, 9, 9])])
    assert [box.x for box in boxes.of("/x/one/a.jpg")] == [2]
    assert [box.x for box in boxes.of("/x/two/a.jpg")] == [1]


def test_a_base_name_that_two_entries_share_stands_for_neither(read):
    boxes = read([result("one/a.jpg"), result("two/a.jpg")])
    assert boxes.of("/x/three/a.jpg") == []
    assert boxes.unmatched() == ["one/a.jpg", "two/a.jpg"]


@pytest.mark.parametrize("name", ["a.jpg", "three/a.jpg", "./a.jpg"])
def test_a_name_that_fits_two_pictures_is_refused(read, name):
    boxes = read([result(name)])
    with pytest.raises(UsageError) as caught:
        boxes.match(["/x/one/a.jpg", "/x/two/a.jpg"])
    for part in ("boxes.json", repr(name), "/x/one/a.jpg", "/x/two/a.jpg"):
        assert part in str(caught.value)
    one_by_one = read([result(name)])
    assert one_by_one.of("/x/one/a.jpg") == one_by_one.of("/x/one/a.jpg") == [BOX]
    with pytest.raises(UsageError, match="fits two pictures"):
        one_by_one.of("/x/two/a.jpg")


def test_the_digest_is_that_of_the_boxes_whatever_their_order(read):
    first, second = result("a.jpg", score=0.5), result("b.jpg", score=0.25)
    digest = read([first, second]).digest
    assert len(digest) == 64
    assert digest == read([second, first, first]).digest
    assert digest != read([first]).digest
    assert digest != read([first, second], 0.4).digest
    assert digest != read([first, result("c.jpg", score=0.25)]).digest


BAD = [
    ("", "JSON"),
    ("not json", "JSON"),
    ("[" * 100_000, "JSON"),
    ("[" + "1" * 5000 + "]", "JSON"),
    ([], "at least one person's box, got list []"),
    ({}, "key images"),
    ({"images": images("a.jpg")}, "annotations: expected a list of persons' boxes, got nothing"),
    ({"images": images("a.jpg"), "annotations": []}, "annotations: expected at least one"),
    ({"images": {}, "annotations": [result(0)]}, "images: expected a list"),
    ({"images": [7], "annotations": [result(0)]}, "images[0]: expected a mapping"),
    ({"images": [{"id": 0}], "annotations": [result(0)]}, "images[0].file_name"),
    ({"images": [{"file_name": "a"}], "annotations": [result(0)]}, "images[0].id"),
    ({"images": images("a") + images("b"), "annotations": [result(0)]}, "images[1].id"),
    ({"images": images("a.jpg"), "annotations": [result(5)]}, "annotations[0].image_id"),
    (
        {"images": images("a"), "annotations": [result(0, category_id=1)], "categories": 1},
        "categories: expected a list",
    ),
    (
        {"images": images("a"), "annotations": [result(0, category_id=1)], "categories": [{}]},
        "categories[0].id",
    ),
    (7, "expected a list of persons' boxes, got int 7"),
    ("null", "expected a list of persons' boxes, got nothing"),
    ([result(), 7], "entry 1: expected a mapping"),
    ([result(), {"bbox": BBOX}], "entry 1.image_id"),
    ([result(""), result()], "entry 0.image_id: expected a file's name, got str ''"),
    ([result("a/..")], "entry 0.image_id"),
    ([result("..")], "entry 0.image_id"),
    ([result("/")], "entry 0.image_id"),
    ([result(3)], "entry 0.image_id: expected a file's name, or a second file"),
    ([result(True)], "entry 0.image_id"),
    ([result(1.5)], "entry 0.image_id"),
    ([{"image_id": "a.jpg"}], "entry 0.bbox: expected four finite numbers"),
    ([result(bbox=[1, 2, 3])], "entry 0.bbox"),
    ([result(bbox=[1, 2, 3, 4, 5])], "entry 0.bbox"),
    ([result(bbox=[1, 2, 3, "4"])], "entry 0.bbox"),
    ([result(bbox=[1, 2, 3, True])], "entry 0.bbox"),
    ([result(bbox=[1, 2, 3, math.nan])], "entry 0.bbox"),
    ([result(bbox=[math.inf, 2, 3, 4])], "entry 0.bbox"),
    ([result(bbox=[10**400, 2, 3, 4])], "entry 0.bbox"),
    ([result(bbox=[1, 2, -3, 4])], "entry 0.bbox: expected a width and a height"),
    ([result(bbox={"x": 1})], "entry 0.bbox"),
    ([result(score="high")], "entry 0.score: expected a finite number"),
    ([result(score=math.nan)], "entry 0.score"),
    ([result(category_id="person")], "entry 0.category_id: expected an integer"),
    ([result(category_id=1), result()], "entry 1.category_id: expected an id, as other"),
    ([result(category_id=0), result(category_id=2)], "no entry has category_id 1, the id of"),
]


@pytest.mark.parametrize(("content", "named"), BAD, ids=[named for _, named in BAD])
def test_a_malformed_file_is_refused_naming_file_entry_and_field(read, content, named):
    with pytest.raises(UsageError) as caught:
        read(content)
    message = str(caught.value)
    assert "boxes.json" in message and named in message
    assert len(message) < 400 and len(message.splitlines()) == 1


def test_a_minimal_score_that_no_box_has_is_refused(read):
    with pytest.raises(UsageError, match="at least 0.9, the highest is 0.5"):
        read([result(score=0.5), result(score=0.25)], 0.9)
    with pytest.raises(UsageError, match="min_score: expected a finite number, got nan"):
        read([result(score=0.5)], math.nan)


def test_a_category_of_a_file_without_categories_is_refused(read):
    with pytest.raises(UsageError, match="no entry has a category_id, so category 3"):
        read([result()], category=3)


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.json.*does not exist"):
        read_boxes(tmp_path / "none.json")
    with pytest.raises(UsageError, match="Is a directory"):
        read_boxes(tmp_path)
    with pytest.raises(UsageError):
        read_boxes("a\0b")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UsageError, match="cannot be read as JSON"):
        read_boxes(tmp_path / "bytes.json")


def one_of(value) -> st.SearchStrategy:
    """The value, or anything else that JSON can hold."""
    return st.one_of(st.just(value), st.just(value), st.just(value), ANY)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
ENTRY = ANY | st.fixed_dictionaries(
    {"image_id": one_of(0) | one_of("a.jpg"), "bbox": one_of(BBOX) | st.lists(ANY, max_size=5)},
    optional={"score": one_of(0.5), "category_id": one_of(1), "iscrowd": one_of(0)},
)
ENTRIES = ANY | st.lists(ENTRY, min_size=1, max_size=3)
MAPPING = st.fixed_dictionaries(
    {
        "images": ANY
        | st.lists(
            ANY | st.fixed_dictionaries({"id": one_of(0), "file_name": one_of("a.jpg")}),
            max_size=3,
        ),
        "annotations": ENTRIES,
    },
    optional={
        "categories": ANY
        | st.lists(st.fixed_dictionaries({"id": one_of(1), "name": one_of("person")}))
    },
)


@given(ANY | ENTRIES | MAPPING)
@example([result("\ud800"), result("\0")])
@example([result("\ud800", category_id=2)])
def test_any_json_gives_boxes_or_a_usage_error(content):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(content, file)
        file.flush()
        try:
            boxes = read_boxes(file.name)
            found = boxes.of("/x/a.jpg")
            unmatched = boxes.unmatched()
        except UsageError as err:
            str(err).encode()
            return
    assert found == sorted(found, key=lambda box: box[:4])
    assert all(math.isfinite(v) for box in found for v in box[:4])
    assert all(isinstance(name, str) for name in unmatched) and len(boxes.digest) == 64
