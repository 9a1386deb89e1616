"""Generated people on disk: prepared, exported as published, their ceiling."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.data.datasets.synthetic.people import DEMO, SPLITS, VARIANTS, generate
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from cada_jax.data.preparation.source import read_source
from cada_jax.data.registry import PUBLISHED
from cada_jax.data.split import load_split
from cada_jax.text.tokenizer import Tokenizer, clean_caption
from tools import ceiling
from tools import export_synthetic as tool

TINY = VARIANTS["tiny"]


# Records


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture
def config(load_config, data_dir):
    config = load_config("default")
    config.data.update(name="synthetic", variant="tiny", max_length=49, data_dir=data_dir)
    return config


def test_the_records_hold_what_the_generator_gives(config):
    split = load_split(config, "test")
    examples = {e.jpeg: e for e in generate(TINY, "test")}
    assert split.num_images == len(examples) == 24
    assert split.num_captions == 48
    tokenizer = Tokenizer(split.vocab_path)
    for image, pid, path in zip(split.images, split.image_pids, split.image_paths, strict=True):
        example = examples[image]
        assert pid == TINY.first_pid("test") + example.person
        assert path.startswith(f"{pid:05d}_")
    for i, text in enumerate(split.texts):
        example = examples[split.images[split.caption_image[i]]]
        assert text in [clean_caption(c.text) for c in example.captions]
        ids = split.token_ids[i]
        assert tokenizer.special["sep"] in ids  # nothing is cut off
        assert tokenizer.vocabulary["[UNK]"] not in ids
    assert split.vocab_path.read_bytes() == VOCAB_PATH.read_bytes()


def test_captions_have_phrases_to_mask(config):
    split = load_split(config, "val")
    assert (split.phrase_ids.max(axis=1) >= 2).all()
    assert (split.attribute_mask.sum(axis=1) >= 4).all()


def test_persons_of_the_splits_have_different_numbers(config):
    pids = [set(load_split(config, split).image_pids.tolist()) for split in SPLITS]
    assert len(set.union(*pids)) == sum(map(len, pids)) == 40


# Export


def test_the_exported_folder_is_what_the_real_loader_expects(tmp_path, capsys):
    folder = tmp_path / "new" / "RSTPReid"
    assert tool.main(["--variant=tiny", f"--output={folder}"]) == 0
    assert "python -m cada_jax prepare --dataset=rstp" in capsys.readouterr().out
    entries = json.loads((folder / "data_captions.json").read_text())
    assert len(entries) == 72 + 24 + 24
    assert {frozenset(e) for e in entries} == {frozenset(("id", "img_path", "captions", "split"))}
    assert all(len(e["captions"]) == 2 for e in entries)
    files = {p.relative_to(folder / "imgs").as_posix() for p in folder.glob("imgs/**/*.jpg")}
    assert files == {e["img_path"] for e in entries}
    for entry in entries[::20]:
        with Image.open(folder / "imgs" / entry["img_path"]) as image:
            assert image.size == (48, 96)
    source = read_source(PUBLISHED["rstp"].LAYOUT, folder)
    assert len(source.entries) == len(entries)
    assert source.problems == []


@pytest.mark.parametrize(
    ("name", "captions", "splits"),
    [
        ("rstp", {2}, ("train", "val", "test")),
        ("cuhk", {1, 2, 3}, ("train", "val", "test")),
        ("icfg", {1}, ("train", "test")),
    ],
)
def test_every_format_is_one_that_its_loader_reads(tmp_path, name, captions, splits):
    few = replace(TINY, train_persons=4, val_persons=2, test_persons=2)
    form = tool.FORMATS[name]
    counts = tool.export(few, tmp_path / form.folder, form)
    assert tuple(counts) == splits == tuple(PUBLISHED[name].LAYOUT.published)
    source = read_source(PUBLISHED[name].LAYOUT, tmp_path)  # the parent will do
    assert source.problems == []
    assert source.annotation.name == form.annotation == PUBLISHED[name].LAYOUT.annotations[0]
    assert {len(entry.captions) for entry in source.entries} == captions
    for split in splits:
        assert source.counts(split)[:2] == (few.persons(split), counts[split])
    if name == "cuhk":
        assert len({entry.image.split("/")[0] for entry in source.entries}) > 3
        item = json.loads(source.annotation.read_text())[0]
        assert item["processed_tokens"][0][:2] == item["captions"][0].lower().split()[:2]
    if name == "icfg":
        assert all(e.image.startswith(f"{e.split}/") for e in source.entries)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "precious.txt").write_text("x")
    assert tool.main(["--variant=tiny", f"--output={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path) in error
    with pytest.raises(UsageError, match="Nothing was touched"):  # whoever calls it
        tool.export(TINY, tmp_path, tool.FORMATS["rstp"])
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


# Ceiling


def test_matches_on_a_table_made_by_hand():
    stated = np.array([[1, 2, 0], [0, 3, 5]])
    shown = np.array([[1, 2, 9], [1, 0, 5], [4, 3, 5]])
    contradicted, confirmed = ceiling.count_matches(stated, shown)
    assert contradicted.tolist() == [[0, 0, 2], [2, 0, 0]]
    assert confirmed.tolist() == [[2, 1, 0], [0, 1, 2]]


def test_no_caption_contradicts_its_own_person():
    truth = ceiling.collect_truth(replace(TINY, images_per_person=5), "train")
    contradicted, confirmed = ceiling.count_matches(truth.stated, truth.shown)
    own = truth.caption_person[:, None] == truth.image_person[None]
    assert contradicted[own].max() == 0
    described = np.repeat(np.eye(len(truth.shown), dtype=bool), 2, axis=0)
    assert (confirmed[described] == (truth.stated != 0).sum(1)).all()


def test_the_ceiling_of_the_demo():
    result = ceiling.compute_ceiling(DEMO, "val")
    assert 93 < result["best"]["R1"] < 99
    assert result["consistent"]["R1"] < result["best"]["R1"]
    assert all(0 < value <= 100 for metrics in result.values() for value in metrics.values())


def test_without_twins_and_with_one_person_the_ceiling_is_the_top():
    alone = replace(TINY, test_persons=1)
    assert ceiling.compute_ceiling(alone, "test")["consistent"]["mAP"] == 100
