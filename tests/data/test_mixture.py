"""Several sets as one training split: nobody is anybody else, sets are found by their names."""

from pathlib import Path

import numpy as np
import pytest

from cada_jax.common.errors import UsageError
from cada_jax.data import mixture
from cada_jax.data.split import Split

LENGTH = 5


def make_split(dataset: str, pids, counts, vocab: Path) -> Split:
    images = np.empty(len(pids), object)
    images[:] = [f"{dataset} {i}".encode() for i in range(len(pids))]
    captions = sum(counts)
    return Split(
        name="train",
        dataset=dataset,
        images=images,
        image_paths=[f"{i}.jpg" for i in range(len(pids))],
        image_pids=np.array(pids, np.int32),
        texts=[f"{dataset} {i}" for i in range(captions)],
        token_ids=np.full((captions, LENGTH), len(pids), np.int32),
        phrase_ids=np.zeros((captions, LENGTH), np.int32),
        attribute_mask=np.zeros((captions, LENGTH), bool),
        caption_image=np.repeat(np.arange(len(pids), dtype=np.int32), counts),
        vocab_path=vocab,
    )


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("a\nb\n")
    return path


@pytest.fixture
def splits(vocab):
    return [
        make_split("cuhk/x/1", [7, 1, 1, 2], [2, 1, 3, 2], vocab),
        make_split("rstp/x/1", [1, 0, 2], [2, 2, 2], vocab),
        make_split("icfg/x/1", [1, 1], [1, 1], vocab),
    ]


def test_a_mixture_holds_every_pair_of_every_set(splits):
    mixed = mixture.mix_splits(splits)
    expected = [
        (split.images[image], text, int(split.token_ids[row, 0]))
        for split in splits
        for row, (text, image) in enumerate(zip(split.texts, split.caption_image, strict=True))
    ]
    got = [
        (mixed.images[image], text, int(mixed.token_ids[row, 0]))
        for row, (text, image) in enumerate(zip(mixed.texts, mixed.caption_image, strict=True))
    ]
    assert got == expected
    assert mixed.image_paths[0] == "cuhk/0.jpg" and mixed.image_paths[-1] == "icfg/1.jpg"
    assert mixed.dataset == "cuhk/x/1 + rstp/x/1 + icfg/x/1"
    assert mixed.image_pids.dtype == mixed.caption_image.dtype == np.int32


def test_two_images_are_of_one_person_only_within_a_set(splits):
    mixed = mixture.mix_splits(splits)
    owners = [(s.dataset, int(pid)) for s in splits for pid in s.image_pids]
    for i, a in enumerate(owners):
        for j, b in enumerate(owners):
            assert (mixed.image_pids[i] == mixed.image_pids[j]) == (a == b)


def test_different_vocabularies_do_not_mix(splits, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("a\nc\n")
    foreign = make_split("rstp/y/1", [1], [1], other)
    with pytest.raises(UsageError, match=r"cuhk/x/1 and rstp/y/1 .*different vocabularies"):
        mixture.mix_splits([splits[0], foreign])


def test_named_sets_differ_in_name_and_variant_alone(load_config):
    config = load_config("rstp")
    config.data.variant = "grammar-word-73-0a1b2c3d"
    config.eval.datasets = "cuhk, synthetic/demo,rstp,icfg/other"
    sets = mixture.named_sets(config, "eval.datasets")
    chosen = {label: (own.data.name, own.data.variant) for label, own in sets.items()}
    assert chosen == {
        "cuhk": ("cuhk", "grammar-word-73-0a1b2c3d"),
        "synthetic/demo": ("synthetic", "demo"),
        "rstp": ("rstp", "grammar-word-73-0a1b2c3d"),
        "icfg/other": ("icfg", "other"),
    }
    for own in sets.values():
        own.data.update(name=config.data.name, variant=config.data.variant)
        assert own.to_json() == config.copy_and_resolve_references().to_json()
