"""Folders as published, whole and broken: what is read, and how each fault is reported."""

import dataclasses
import io
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
from cada_jax.data.preparation.reader import image_problem
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
    assert all(image_problem(source.image_file(e).read_bytes()) is None for e in source.entries)


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
    assert "7 of 7 images are missing" in problem and problem.endswith("unpacked yet: imgs.zip?")


def test_the_lists_that_are_there_are_named_where_the_right_one_is_not(tmp_path):
    (tmp_path / "caption_all.json").write_text("[]")
    with pytest.raises(MissingFileError, match=r"reid_raw\.json.*It holds caption_all\.json: "):
        read_source(LAYOUTS["cuhk"], tmp_path)
    with pytest.raises(MissingFileError, match=r"nowhere does not exist"):
        read_source(LAYOUTS["cuhk"], tmp_path / "nowhere")


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
        (set_field(2, "captions", ["fine", "  ..."]), ["0001_c01_0003.jpg", "empty caption"]),
        (set_field(2, "captions", ["fine", 7]), ["0001_c01_0003.jpg", "not a string", "int"]),
        (set_field(2, "captions", []), ["0001_c01_0003.jpg", "captions is []"]),
        (set_field(2, "captions", "a man"), ["0001_c01_0003.jpg", "'a man'"]),
        (set_field(2, "split", "training"), ["unknown split 'training'", "train", "val"]),
        (set_field(2, "id", "1"), ["entry 2", "id is '1'"]),
        (lambda entries: entries[2].pop("split"), ["entry 2", "no split"]),
        (set_field(2, "img_path", "0001_c02_0004.jpg"), ["0001_c02_0004.jpg has 2 entries"]),
        (set_field(2, "img_path", "gone.jpg"), ["1 of 7 images are missing", "gone.jpg"]),
        (set_field(4, "id", 0), ["person 0 is in the splits train and val"]),
    ],
)
def test_each_fault_is_one_line_that_names_it_and_stops_the_builder(rstp, tmp_path, change, named):
    edit(rstp, change)
    problems = list_problems(read_source(LAYOUTS["rstp"], rstp))
    assert len(problems) == 1
    for part in named:
        assert part in problems[0]
    builder = builder_of(tmp_path / "out")
    with pytest.raises(UsageError) as caught:
        registry.write_records(builder, rstp)
    assert named[0].split()[-1] in str(caught.value)
    assert not Path(builder.data_dir).exists()


def test_many_missing_images_are_counted_and_ten_named(rstp):
    edit(
        rstp, lambda entries: entries.extend({**entries[0], "img_path": f"x{i}"} for i in range(30))
    )
    (problem,) = list_problems(read_source(LAYOUTS["rstp"], rstp))
    assert "30 of 37 images are missing" in problem
    assert "x9" in problem and "x10" not in problem


def truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def not_an_image(path):
    path.write_text("<html>404</html>")


def other_format(path):
    Image.new("RGB", (8, 8)).save(path, "GIF")


@pytest.mark.parametrize("break_image", [truncated, not_an_image, other_format])
def test_a_corrupt_image_is_named_and_nothing_is_left(rstp, tmp_path, break_image):
    break_image(rstp / "imgs" / "0002_c01_0005.jpg")
    builder = builder_of(tmp_path / "out")
    with pytest.raises(UsageError, match=r"0002_c01_0005\.jpg (cannot be decoded|is GIF)"):
        registry.write_records(builder, rstp)
    assert not registry.is_prepared(builder)
    assert not [p for p in (tmp_path / "out").rglob("*") if "tfrecord" in p.name]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_damaged_jpeg_is_found_as_by_decoding_all_of_it(options, mode):
    """The check leaves out what cannot fail, and only that."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (40, 24, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **options)
    whole, bad = file.getvalue(), 0
    assert image_problem(whole) is None
    for trial in range(60):
        data = np.frombuffer(whole, np.uint8)[: generator.integers(1, len(whole) + 1)].copy()
        if trial % 2:
            data = np.frombuffer(whole, np.uint8).copy()
            data[generator.integers(0, len(data), 3)] = generator.integers(0, 256, 3)
        try:
            with Image.open(io.BytesIO(data.tobytes())) as image:
                image.load()
            decodes = True
        except (OSError, ValueError, SyntaxError):
            decodes = False
        assert (image_problem(data.tobytes()) is None) == decodes
        bad += not decodes
    assert 0 < bad < 60


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
