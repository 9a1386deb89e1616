"""Prepared data that changed since is named before anything is computed with it."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.common.errors import UsageError
from cada_jax.data import registry
from cada_jax.data import split as split_lib
from cada_jax.data.preparation.features import caption_config
from cada_jax.data.preparation.prepared_folder import write_records
from tests.conftest import DATASETS, _load_config

SOURCE = DATASETS / "cuhk" / "dummy_data"


def prepare(source: Path, out: Path) -> Path:
    config = caption_config(str(SOURCE / "vocab.txt"))
    builder = registry.PUBLISHED["cuhk"](data_dir=str(out), config=config)
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


def cut(name: str):
    return lambda folder: (folder / name).write_text((folder / name).read_text()[:40])


def change(name: str, before: str, after: str):
    def work(folder):
        text = (folder / name).read_text()
        assert before in text
        (folder / name).write_text(text.replace(before, after))

    return work


def write_again(folder: Path) -> None:
    """Replaces a shard by records that TFRecord's own checksums have nothing against."""
    path = shard(folder)
    data = list(tf.data.TFRecordDataset([str(path)]).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(path)) as file:
        for record in data:
            file.write(record.replace(b"man", b"boy"))


DAMAGE = {
    "dataset_info.json cut": (cut("dataset_info.json"), "prepared data"),
    "another number of images": (change("dataset_info.json", '"3"', '"2"'), "has 3 images"),
    "no digests": (lambda f: (f / "digests.json").unlink(), "digests.json is missing"),
    "another vocabulary": (change("vocab.txt", "[PAD]", "[BAD]"), "vocab.txt is not the file"),
    "a shard lost": (lambda f: shard(f).unlink(), "train.tfrecord-00000-of-00001 is missing"),
    "a shard of another set": (write_again, "tfrecord-00000-of-00001 is not the file"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_message_that_says_how_to_prepare_anew(folder, kind):
    damage, named = DAMAGE[kind]
    damage(folder)
    with pytest.raises(UsageError) as caught:
        split_lib.load_split(config_of(folder), "train")
    message = str(caught.value)
    assert named in message and len(message.splitlines()) == 1 and len(message) < 900
    assert str(folder) in message and "emove that folder" in message


@given(name=st.sampled_from(["train.tfrecord", "vocab.txt"]), place=st.floats(0, 0.999))
def test_one_flipped_bit_never_passes(prepared, name, place):
    (path,) = prepared.glob(f"*{name}*")
    whole = path.read_bytes()
    flip(path, place)
    try:
        with pytest.raises(UsageError, match=name):
            split_lib.load_split(config_of(prepared), "train")
    finally:
        path.write_bytes(whole)


@given(
    name=st.sampled_from(["dataset_info.json", "features.json", "digests.json"]),
    place=st.floats(0, 0.999),
)
def test_one_flipped_bit_of_a_description_changes_nothing_or_is_one_line(prepared, name, place):
    expected = split_lib.load_split(config_of(prepared), "train").data_digest
    whole = (prepared / name).read_bytes()
    flip(prepared / name, place)
    try:
        assert split_lib.load_split(config_of(prepared), "train").data_digest == expected
    except UsageError as error:
        assert len(str(error).splitlines()) == 1
    finally:
        (prepared / name).write_bytes(whole)


def test_a_split_that_is_needed_hours_later_is_checked_without_loading_it(folder):
    for name in ("train", "val", "test"):
        split_lib.check_split(config_of(folder), name)
    flip(shard(folder, "val"), 0.5)
    split_lib.check_split(config_of(folder), "test")
    with pytest.raises(UsageError, match=r"cuhk-val\.tfrecord.*Remove that .*cada_jax prepare"):
        split_lib.check_split(config_of(folder), "val")
    with pytest.raises(UsageError, match="no split 'dev'"):
        split_lib.check_split(config_of(folder), "dev")


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
