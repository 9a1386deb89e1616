"""Prepared data that changed since is named before anything is computed with it."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.common.errors import UsageError
from cada_jax.data import registry
from cada_jax.data import split as split_lib
from cada_jax.data.preparation import digests, records
from cada_jax.data.preparation.features import caption_config
from cada_jax.data.preparation.prepared_folder import find_defect, write_records
from cada_jax.text.vocabulary import vocabulary_digest
from tests.conftest import DATASETS, _load_config

SOURCE = DATASETS / "cuhk" / "dummy_data"


def prepare(source: Path, out: Path) -> Path:
    builder = registry.PUBLISHED["cuhk"](
        data_dir=str(out), config=caption_config(str(SOURCE / "vocab.txt"))
    )
    write_records(builder, source)
    return Path(builder.data_dir)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(SOURCE, tmp_path_factory.mktemp("prepared"))


def config_of(folder: Path):
    config = _load_config("cuhk")
    config.data.data_dir = str(folder.parents[2])
    config.data.variant = folder.parent.name
    return config


@pytest.fixture
def folder(prepared, tmp_path):
    """A copy of a prepared set; its data folder has a name with brackets in it."""
    root = shutil.copytree(prepared.parents[2], tmp_path / "data[1]")
    return root / prepared.relative_to(prepared.parents[2])


def shard(folder: Path, split: str = "train") -> Path:
    return next(folder.glob(f"*{split}.tfrecord*"))


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 16
    path.write_bytes(data)


def rewrite(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


def change_json(name: str, **changes):
    def change(folder):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def cut_file(name: str):
    return lambda folder: (folder / name).write_text((folder / name).read_text()[:40])


def write_again(folder: Path, change) -> None:
    """Replaces a shard by records that TFRecord's own checksums have nothing against."""
    path = shard(folder)
    data = [change(record) for record in tf.data.TFRecordDataset([str(path)]).as_numpy_iterator()]
    with tf.io.TFRecordWriter(str(path)) as file:
        for record in data:
            file.write(record)


DAMAGE = {
    "dataset_info.json empty": (rewrite("dataset_info.json", ""), "dataset_info.json"),
    "dataset_info.json cut": (cut_file("dataset_info.json"), "dataset_info.json"),
    "dataset_info.json a list": (rewrite("dataset_info.json", "[]"), "dataset_info.json holds"),
    "dataset_info.json nothing in it": (rewrite("dataset_info.json", "{}"), "dataset_info.json"),
    "dataset_info.json of another version": (
        change_json("dataset_info.json", version="1.0.0"),
        "dataset_info.json is of version 1.0.0, expected 2.0.0",
    ),
    "dataset_info.json without splits": (
        change_json("dataset_info.json", splits=[]),
        "dataset_info.json names no split",
    ),
    "dataset_info.json with odd splits": (
        change_json("dataset_info.json", splits=[{"name": 7}]),
        "dataset_info.json or features.json",
    ),
    "features.json empty": (rewrite("features.json", ""), "features.json"),
    "features.json cut": (cut_file("features.json"), "features.json"),
    "features.json a list": (rewrite("features.json", "[1]"), "features.json holds a list"),
    "features.json nothing in it": (rewrite("features.json", "{}"), "features.json"),
    "features.json of other features": (
        lambda f: (f / "features.json").write_text(
            (f / "features.json").read_text().replace("attribute_mask", "mask")
        ),
        "features.json",
    ),
    "features.json of another length": (
        lambda f: (f / "features.json").write_text(
            (f / "features.json").read_text().replace('"73"', '"40"')
        ),
        "73 tokens, expected 40",
    ),
    "digests.json cut": (cut_file("digests.json"), "digests.json cannot be read"),
    "digests.json a list": (rewrite("digests.json", "[]"), "digests.json cannot be read"),
    "another vocabulary": (
        lambda f: (f / "vocab.txt").write_text(
            "\n".join(sorted((f / "vocab.txt").read_text().splitlines())) + "\n"
        ),
        "vocab.txt is not the vocabulary",
    ),
    "no vocabulary": (lambda f: (f / "vocab.txt").unlink(), "vocab.txt is missing"),
    "a shard cut": (lambda f: shard(f).write_bytes(shard(f).read_bytes()[:-9]), "bytes, expected"),
    "a shard lost": (lambda f: shard(f).unlink(), "train.tfrecord-00000-of-00001 is missing"),
    "a flipped bit": (
        lambda f: flip(shard(f), 0.5),
        "cuhk-train.tfrecord-00000-of-00001 is damaged: a checksum in it is wrong",
    ),
    "a flipped bit in the first length": (
        lambda f: flip(shard(f), 0.0),
        "cuhk-train.tfrecord-00000-of-00001",
    ),
    "a shard of another set": (
        lambda f: write_again(f, lambda record: record.replace(b"man", b"boy")),
        "cuhk-train.tfrecord-00000-of-00001 is not the file that was written there",
    ),
    "records that are none": (
        lambda f: write_again(f, lambda record: b"\xff" * len(record)),
        "cuhk-train.tfrecord-00000-of-00001",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_message_that_says_how_to_prepare_anew(folder, kind):
    damage, named = DAMAGE[kind]
    before = {p: p.read_bytes() for p in folder.iterdir()}
    damage(folder)
    assert {p: p.read_bytes() for p in folder.iterdir()} != before, "nothing was damaged"
    config = config_of(folder)
    if "length" in kind:
        config.data.max_length = 40 if "another" in kind else 73
    with pytest.raises(UsageError) as caught:
        split_lib.load_split(config, "train")
    message = str(caught.value)
    assert named in message and str(folder) in message
    assert "emove that folder" in message
    assert "python -m cada_jax prepare --dataset=cuhk" in message
    assert len(message.splitlines()) == 1 and len(message) < 900


@pytest.mark.parametrize("kind", ["a flipped bit", "a shard cut", "records that are none"])
def test_sets_prepared_before_there_were_digests_are_checked_by_what_they_have(folder, kind):
    (folder / "digests.json").unlink()
    split_lib.load_split(config_of(folder), "train")
    DAMAGE[kind][0](folder)
    with pytest.raises(UsageError, match=r"emove that folder"):
        split_lib.load_split(config_of(folder), "train")


@given(place=st.floats(0, 0.999))
def test_one_flipped_bit_of_a_shard_never_passes(prepared, place):
    path = shard(prepared)
    whole = path.read_bytes()
    flip(path, place)
    try:
        with pytest.raises(UsageError, match=r"cuhk-train\.tfrecord-00000-of-00001"):
            split_lib.load_split(config_of(prepared), "train")
    finally:
        path.write_bytes(whole)


def test_a_changed_file_is_found_without_reading_records(folder):
    names = [path.name for path in folder.glob("*.tfrecord*")]
    assert len(names) == 3 and digests.changed_file(folder, names) is None
    flip(shard(folder, "val"), 0.5)
    assert digests.changed_file(folder, names) == shard(folder, "val").name
    assert find_defect(folder) is None, "sizes alone do not tell"


@pytest.mark.parametrize("old", [False, True])
def test_a_split_that_is_needed_hours_later_is_checked_without_loading_it(folder, old):
    if old:
        (folder / "digests.json").unlink()
    for name in ("train", "val", "test"):
        split_lib.check_split(config_of(folder), name)
    flip(shard(folder, "val"), 0.5)
    split_lib.check_split(config_of(folder), "test")
    with pytest.raises(UsageError, match=r"cuhk-val\.tfrecord.*Remove that .*cada_jax prepare"):
        split_lib.check_split(config_of(folder), "val")
    with pytest.raises(UsageError, match="no split 'dev'"):
        split_lib.check_split(config_of(folder), "dev")


def test_the_digest_of_a_split_is_the_stored_one_and_the_same_elsewhere(folder, tmp_path):
    split = split_lib.load_split(config_of(folder), "train")
    (folder / "digests.json").unlink()
    old = split_lib.load_split(config_of(folder), "train")
    moved = tmp_path / "elsewhere"
    shutil.copytree(SOURCE, moved)
    again = split_lib.load_split(config_of(prepare(moved, tmp_path / "out")), "train")
    assert split.data_digest == old.data_digest == again.data_digest
    assert split.vocabulary_digest == vocabulary_digest(SOURCE / "vocab.txt")
    assert len(split.data_digest) == 64


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("image_pids", lambda x: x + 1),
        ("images", lambda x: x[::-1]),
        ("texts", lambda x: [*x[:-1], "another"]),
        ("token_ids", lambda x: x + (np.arange(x.size).reshape(x.shape) == 5)),
        ("phrase_ids", lambda x: x + 1),
        ("attribute_mask", lambda x: ~x),
        ("caption_image", lambda x: np.sort(np.append(x[1:], 2)).astype(np.int32)),
    ],
)
def test_the_digest_changes_with_everything_a_result_depends_on(prepared, name, changed):
    split = split_lib.load_split(config_of(prepared), "train")
    other = dataclasses.replace(split, **{name: changed(getattr(split, name))})
    assert other.data_digest != split.data_digest
    same = dataclasses.replace(split, image_paths=["elsewhere/" + p for p in split.image_paths])
    assert same.data_digest == split.data_digest


def test_another_vocabulary_of_the_same_size_is_another_digest(prepared, tmp_path):
    split = split_lib.load_split(config_of(prepared), "train")
    lines = split.vocab_path.read_text().splitlines()
    lines[-1], lines[-2] = lines[-2], lines[-1]
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n")
    other = dataclasses.replace(split, vocab_path=tmp_path / "vocab.txt")
    assert other.vocabulary_digest != split.vocabulary_digest
    assert other.data_digest != split.data_digest


def test_persons_of_an_old_set_that_do_not_fit_are_numbered_and_keep_their_order():
    numbers, persons = split_lib._person_numbers([2**40, 7, 2**31, 7])
    assert numbers.dtype == np.int32 and numbers.tolist() == [2, 0, 1, 0]
    assert persons == (7, 2**31, 2**40)
    numbers, persons = split_lib._person_numbers([3, 2**31 - 1, 0])
    assert (numbers.tolist(), persons) == ([3, 2**31 - 1, 0], ())


@pytest.mark.parametrize("ordered", [True, False])
def test_records_come_in_the_order_of_tfds(tmp_path, monkeypatch, ordered):
    """Batches are made by number: another order would be another run."""

    class Numbers(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"pid": np.int64})
            return self.dataset_info_from_configs(features=features, disable_shuffling=ordered)

        def _split_generators(self, _):
            return {"train": ((i, {"pid": i}) for i in range(300))}

        def _generate_examples(self):
            raise NotImplementedError

    builder = Numbers(data_dir=str(tmp_path))
    settings = tfds.download.DownloadConfig(num_shards=7)
    builder.download_and_prepare(download_config=settings)
    split = builder.info.splits["train"]
    assert split.num_shards == 7

    def parse(data):
        parsed = records.tf_example_pb2.Example.FromString(data)
        return parsed.features.feature["pid"].int64_list.value[0]

    monkeypatch.setattr(records, "parse_record", parse)
    got = list(records.read_records(split, builder.info.disable_shuffling))
    expected = builder.as_dataset(split="train", shuffle_files=False)
    assert got == [int(e["pid"]) for e in expected.as_numpy_iterator()]
    assert (got == list(range(300))) == ordered


def test_a_record_is_read_back_as_it_was_written(prepared):
    builder = tfds.builder_from_directory(prepared)
    expected = builder.as_dataset(
        split="train", decoders={"image": tfds.decode.SkipDecoding()}
    ).as_numpy_iterator()
    got = records.read_records(builder.info.splits["train"], ordered=True)
    for record, example in zip(got, expected, strict=True):
        assert (record.image, record.pid) == (example["image"], example["pid"])
        assert record.image_path == example["image_path"].decode()
        assert record.texts == [text.decode() for text in example["captions"]["text"]]
        for name in ("token_ids", "phrase_ids", "attribute_mask"):
            array, stored = getattr(record, name), example["captions"][name]
            np.testing.assert_array_equal(array, stored)
            assert array.dtype == stored.dtype
