"""Folders as published, whole and broken: what is read, and how each fault is reported."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.data import registry
from cada_jax.data.preparation.annotations import (
    blocking_problems,
    list_problems,
    read_source,
    shared_persons,
)
from cada_jax.data.preparation.features import caption_config
from cada_jax.data.preparation.stored_image import stored_form
from tests.conftest import DATASETS

LAYOUTS = {name: builder.LAYOUT for name, builder in registry.PUBLISHED.items()}


def copy_dummy(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(DATASETS / name / "dummy_data", folder))


@pytest.fixture
def rstp(tmp_path):
    return copy_dummy("rstp", tmp_path / "RSTPReid")


def annotation(folder: Path) -> Path:
    return folder / "data_captions.json"


def edit(folder: Path, change) -> None:
    """Applies `change` to the list of entries of an RSTPReid folder."""
    entries = json.loads(annotation(folder).read_text())
    change(entries)
    annotation(folder).write_text(json.dumps(entries))


def builder_of(folder: Path, name: str = "rstp"):
    config = caption_config(str(DATASETS / name / "dummy_data" / "vocab.txt"))
    return registry.PUBLISHED[name](data_dir=str(folder), config=config)


@pytest.mark.parametrize(
    ("name", "splits", "captions"),
    [
        ("rstp", {"train": 4, "val": 1, "test": 2}, {2}),
        ("cuhk", {"train": 3, "val": 1, "test": 1}, {1, 2, 3}),
        ("icfg", {"train": 2, "test": 2}, {1}),
    ],
)
def test_whole_folders_have_no_problem(tmp_path, name, splits, captions):
    folder = copy_dummy(name, tmp_path / "anything")
    source = read_source(LAYOUTS[name], folder)
    assert list_problems(source) == []
    assert {s: sum(e.split == s for e in source.entries) for s in splits} == splits
    assert {len(e.captions) for e in source.entries} == captions
    for entry in source.entries:
        data = source.image_file(entry).read_bytes()
        assert stored_form(data) == data


def test_the_folder_may_be_the_parent_and_lack_the_imgs_level(tmp_path, rstp):
    for path in (rstp / "imgs").iterdir():
        path.rename(rstp / path.name)
    (rstp / "imgs").rmdir()
    source = read_source(LAYOUTS["rstp"], tmp_path)
    assert source.root == rstp
    assert list_problems(source) == []


def test_a_list_that_an_editor_saved_with_a_byte_order_mark(rstp):
    annotation(rstp).write_text(annotation(rstp).read_text(), encoding="utf-8-sig")
    assert len(read_source(LAYOUTS["rstp"], rstp).entries) == 7


def test_either_spelling_of_icfg(tmp_path):
    folder = copy_dummy("icfg", tmp_path / "x")
    (folder / "ICFG-PEDES.json").rename(folder / "ICFG_PEDES.json")
    assert len(read_source(LAYOUTS["icfg"], folder).entries) == 4


def test_an_archive_is_to_be_unpacked(tmp_path):
    (tmp_path / "RSTPReid.zip").touch()
    with pytest.raises(MissingFileError, match=r"data_captions\.json.*imgs/.*Unpack RSTPReid\.zip"):
        read_source(LAYOUTS["rstp"], tmp_path)


def test_an_archive_given_as_the_source_is_to_be_unpacked(tmp_path):
    (tmp_path / "RSTPReid.zip").touch()
    with pytest.raises(MissingFileError, match=r"RSTPReid\.zip is a file: unpack it.*imgs/"):
        read_source(LAYOUTS["rstp"], tmp_path / "RSTPReid.zip")


def test_images_that_are_still_packed_are_said_to_be(rstp):
    shutil.rmtree(rstp / "imgs")
    (rstp / "imgs.zip").touch()
    (problem,) = list_problems(read_source(LAYOUTS["rstp"], rstp))
    assert "all 7 images are missing" in problem.text
    assert problem.text.endswith("unpacked yet: imgs.zip?")


def test_the_lists_that_are_there_are_named_where_the_right_one_is_not(tmp_path):
    (tmp_path / "captions.json").write_text("[]")
    with pytest.raises(MissingFileError, match=r"reid_raw\.json.*It holds captions\.json: "):
        read_source(LAYOUTS["cuhk"], tmp_path)
    with pytest.raises(MissingFileError, match=r"nowhere does not exist"):
        read_source(LAYOUTS["cuhk"], tmp_path / "nowhere")


def test_the_list_without_splits_is_said_to_be_of_no_use(tmp_path):
    folder = tmp_path / "CUHK-PEDES"
    folder.mkdir()
    (folder / "caption_all.json").write_text("[]")
    for given in (folder, tmp_path):
        with pytest.raises(MissingFileError, match=r"lacks reid_raw\.json.*caption_all.*split"):
            read_source(LAYOUTS["cuhk"], given)


def test_an_annotation_file_of_another_set_is_recognised(rstp):
    shutil.copy(DATASETS / "cuhk" / "dummy_data" / "reid_raw.json", annotation(rstp))
    with pytest.raises(UsageError, match=r"not the annotation file of RSTPReid.*file_path"):
        read_source(LAYOUTS["rstp"], rstp)


@pytest.mark.parametrize("text", ["[{", "{}", "[]", "[1, 2]"])
def test_an_annotation_file_that_is_no_list_of_entries_is_named(rstp, text):
    annotation(rstp).write_text(text)
    with pytest.raises(UsageError, match=r"data_captions\.json"):
        read_source(LAYOUTS["rstp"], rstp)


def set_field(index, key, value):
    return lambda entries: entries[index].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (set_field(2, "captions", ["fine", "  ..."]), ["captions[1]: empty caption '  ...'"]),
        (
            set_field(2, "captions", ["fine", 7]),
            ["captions[1]: a caption is not a string", "int: 7"],
        ),
        (
            set_field(2, "captions", ["fine", ["a"]]),
            ["captions[1]: ", "but list: ['a']"],
        ),
        (set_field(2, "captions", []), ["captions is []"]),
        (set_field(2, "captions", "a man"), ["captions is 'a man'"]),
        (set_field(2, "captions", {"a": "b"}), ["captions is {'a': 'b'}"]),
        (set_field(2, "captions", ["\U0001f600\u200d\U0001f680"]), ["captions[0]", "one word"]),
        (set_field(2, "captions", ["\u200b\u200c\ufeff"]), ["'\\u200b\\u200c\\ufeff'", "one word"]),
        (set_field(2, "captions", ["a \ud83d man"]), ["captions[0]", "half a character"]),
        (set_field(2, "captions", ["man " * 5000]), ["captions[0]", "5,000 words"]),
        (set_field(2, "captions", ["a top &amp; a bag"]), ["HTML entity &amp;"]),
        (set_field(2, "split", "training"), ["split is 'training'", "'train', 'val', 'test'"]),
        (set_field(2, "split", ["train"]), ["split is ['train']"]),
        (set_field(2, "split", {"train": 1}), ["split is {'train': 1}"]),
        (set_field(2, "split", None), ["split is None"]),
        (set_field(2, "id", "1"), ["id is '1', expected an integer as elsewhere"]),
        (set_field(2, "id", -1), ["id is -1, expected 0 or more"]),
        (set_field(2, "id", 12.0), ["id is 12.0 (float), expected an integer", "write 12"]),
        (set_field(2, "id", True), ["id is True (bool)"]),
        (set_field(2, "id", None), ["id is None (NoneType)"]),
        (set_field(2, "id", " "), ["id is ' '"]),
        (lambda entries: entries[2].pop("split"), ["no split", "0001_c01_0003.jpg"]),
        (lambda entries: entries.__setitem__(2, [1]), ["expected an object, got list [1]"]),
        (set_field(2, "img_path", 7), ["img_path is 7", "expected a path"]),
        (set_field(2, "img_path", "/etc/hostname"), ["'/etc/hostname'", "absolute path"]),
        (set_field(2, "img_path", "C:\\x.jpg"), ["'C:\\\\x.jpg'", "absolute path"]),
        (set_field(2, "img_path", "../../x.jpg"), ["'../../x.jpg'", "leads out of the folder"]),
        (set_field(2, "img_path", "a\\..\\x.jpg"), ["leads out of the folder"]),
        (set_field(2, "img_path", "a\0.jpg"), ["zero byte"]),
        (set_field(2, "img_path", "\udce9.jpg"), ["'\\udce9.jpg'", "half a character"]),
        (set_field(2, "img_path", "._0001_c01_0003.jpg"), ["companion file of macOS"]),
        (set_field(2, "img_path", "0001_c01_0003.png"), ["(there is '0001_c01_0003.jpg')"]),
        (set_field(2, "img_path", "gone.jpg"), ["'gone.jpg' is missing"]),
        (set_field(2, "img_path", "a/gone.jpg"), ["folder 'a' is missing", "1 of 7 images"]),
    ],
)
def test_each_fault_is_one_line_that_names_it_and_stops_the_builder(rstp, tmp_path, change, named):
    edit(rstp, change)
    (problem,) = list_problems(read_source(LAYOUTS["rstp"], rstp))
    assert problem.text.startswith(("entry 2: ", "folder 'a'"))
    for part in named:
        assert part in problem.text
    assert len(problem.text) < 400 and len(problem.text.splitlines()) == 1
    builder = builder_of(tmp_path / "out")
    with pytest.raises(UsageError) as caught:
        registry.write_records(builder, rstp)
    assert problem.text in str(caught.value)
    assert "python -m cada_jax prepare --dataset=rstp" in str(caught.value)
    assert not Path(builder.data_dir).exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            set_field(2, "img_path", "0001_c02_0004.jpg"),
            "image 0001_c02_0004.jpg has 2 entries: 2, 3",
        ),
        (
            set_field(2, "img_path", "./0001_c02_0004.jpg"),
            "image ./0001_c02_0004.jpg has 2 entries: 2, 3",
        ),
        (set_field(4, "id", 0), "person 0 is in the splits train and val"),
    ],
)
def test_what_is_listed_twice_is_named(rstp, change, text):
    edit(rstp, change)
    assert [p.text for p in list_problems(read_source(LAYOUTS["rstp"], rstp))] == [text]


def test_missing_images_of_a_folder_that_is_not_there_are_counted(rstp):
    edit(
        rstp,
        lambda entries: entries.extend(
            {**entries[0], "img_path": f"{'cam_a' if i % 3 else 'cam_b/x'}/{i}"} for i in range(30)
        ),
    )
    a, b = list_problems(read_source(LAYOUTS["rstp"], rstp))
    assert "folder 'cam_a' is missing" in a.text and "20 of 37 images lie in it" in a.text
    assert "folder 'cam_b/x' is missing" in b.text and "10 of 37 images lie in it" in b.text


def truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def not_an_image(path):
    path.write_text("<html>404</html>")


def other_format(path):
    Image.new("RGB", (8, 8)).save(path, "ICO")


@pytest.mark.parametrize("break_image", [truncated, not_an_image, other_format])
def test_a_corrupt_image_is_named_and_nothing_is_left(rstp, tmp_path, break_image):
    break_image(rstp / "imgs" / "0002_c01_0005.jpg")
    builder = builder_of(tmp_path / "out")
    with pytest.raises(UsageError, match=r"0002_c01_0005\.jpg.*\(.*(cannot be decoded|is ICO)"):
        registry.write_records(builder, rstp)
    assert not registry.is_prepared(builder)
    assert not [p for p in (tmp_path / "out").rglob("*") if "tfrecord" in p.name]


def test_shared_persons_names_person_and_splits():
    assert shared_persons({"train": [1, 1, 2], "test": [3]}) == {}
    shared = shared_persons({"train": [1, 2, 7], "val": [4], "test": [7, 2, 2]})
    assert shared == {2: ("train", "test"), 7: ("train", "test")}


def test_a_list_with_the_published_counts_is_taken_as_its_authors_numbered_it(rstp, tmp_path):
    """Whether a data set numbers its persons anew in each split is its authors' affair."""

    def same_number_and_path(entries):
        entries[4]["id"] = entries[0]["id"]
        entries[1]["img_path"] = entries[0]["img_path"]

    edit(rstp, same_number_and_path)
    source = read_source(LAYOUTS["rstp"], rstp)
    assert len(blocking_problems(source)) == len(list_problems(source)) == 2
    counts = {split: source.counts(split) for split in LAYOUTS["rstp"].splits}
    layout = dataclasses.replace(LAYOUTS["rstp"], splits=counts)
    builder = builder_of(tmp_path / "out")
    builder.LAYOUT = layout
    assert blocking_problems(read_source(layout, rstp)) == []
    registry.write_records(builder, rstp)
    assert builder.info.splits["train"].num_examples == 4


def test_image_files_are_stored_as_they_are(rstp, tmp_path):
    builder = builder_of(tmp_path / "out")
    registry.write_records(builder, rstp)
    examples = builder.as_dataset(split="train", decoders={"image": tfds.decode.SkipDecoding()})
    count = 0
    for example in examples.as_numpy_iterator():
        path = rstp / "imgs" / example["image_path"].decode()
        assert example["image"] == path.read_bytes()
        count += 1
    assert count == 4
    stored = (Path(builder.data_dir) / "vocab.txt").read_bytes()
    assert stored == (rstp / "vocab.txt").read_bytes()


def test_records_are_in_the_order_of_the_annotation_file(rstp, tmp_path):
    builder = builder_of(tmp_path / "out")
    registry.write_records(builder, rstp)
    entries = json.loads(annotation(rstp).read_text())
    for split in builder.info.splits:
        paths = [e["image_path"].decode() for e in tfds.as_numpy(builder.as_dataset(split=split))]
        assert paths == [entry["img_path"] for entry in entries if entry["split"] == split]


def test_settings_that_change_the_records_change_the_folder():
    vocabulary = str(DATASETS / "rstp" / "dummy_data" / "vocab.txt")
    configs = [
        caption_config(),
        caption_config(vocabulary),
        caption_config(max_length=40),
        caption_config(tagger="nltk"),
        caption_config(tag_unit="wordpiece"),
    ]
    assert len({config.name for config in configs}) == len(configs)
    assert caption_config("bert-base-uncased").name == caption_config().name == "pattern-word-73"


def test_person_numbers_and_captions_of_the_records(rstp, tmp_path):
    builder = builder_of(tmp_path / "out")
    registry.write_records(builder, rstp)
    entries = {e["img_path"]: e for e in json.loads(annotation(rstp).read_text())}
    for example in builder.as_dataset(split="test").as_numpy_iterator():
        entry = entries[example["image_path"].decode()]
        assert example["pid"] == entry["id"]
        texts = [text.decode() for text in example["captions"]["text"]]
        assert len(texts) == len(entry["captions"])
        for text, caption in zip(texts, entry["captions"], strict=True):
            assert text.split()[:3] == caption.lower().split()[:3]
        assert example["captions"]["token_ids"].shape == (len(texts), 73)
        assert np.all(example["captions"]["token_ids"][:, 0] == 2)
