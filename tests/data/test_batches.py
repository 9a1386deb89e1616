import dataclasses
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.images import encode_png
from cada_jax.data import batches as batches_lib
from cada_jax.data import registry
from cada_jax.data import split as split_lib
from cada_jax.retrieval.images import pixels_of
from cada_jax.text import vocabulary
from cada_jax.text.tokenizer import Tokenizer
from tests.conftest import DATASETS
from tests.data import pictures

LENGTH = 6


@pytest.fixture
def split():
    """11 images of 4 persons, 1 to 3 captions each; image i is filled with the value i."""
    counts = [2, 1, 3, 2, 2, 1, 2, 3, 2, 2, 1]
    images = np.empty(11, object)
    images[:] = [encode_png(np.full((8, 4, 3), i, np.uint8)) for i in range(11)]
    captions = sum(counts)
    return split_lib.Split(
        name="train",
        dataset="test/set/1.0.0",
        images=images,
        image_paths=[f"{i}.png" for i in range(11)],
        image_pids=np.arange(11, dtype=np.int32) // 3,
        texts=[str(i) for i in range(captions)],
        token_ids=np.arange(captions, dtype=np.int32)[:, None] + np.zeros((1, LENGTH), np.int32),
        phrase_ids=np.ones((captions, LENGTH), np.int32),
        attribute_mask=np.ones((captions, LENGTH), bool),
        caption_image=np.repeat(np.arange(11, dtype=np.int32), counts),
        vocab_path=Path("vocab.txt"),
    )


@pytest.fixture
def config(load_config, tmp_path):
    config = load_config("default")
    config.data.image_size = (8, 4)
    config.data.data_dir = str(tmp_path / "data")
    config.train.batch_size = 4
    return config


def take(batches, number):
    return list(itertools.islice(batches, number))


def stack(batches):
    return {key: np.stack([batch[key] for batch in batches]) for key in batches[0]}


def test_train_batches_have_the_stated_shapes_and_types(split, config):
    (batch,) = take(batches_lib.train_batches(split, config, 0), 1)
    shapes = {key: (value.shape, value.dtype.name) for key, value in batch.items()}
    assert shapes == {
        "image": ((4, 8, 4, 3), "uint8"),
        "token_ids": ((4, LENGTH), "int32"),
        "phrase_ids": ((4, LENGTH), "int32"),
        "attribute_mask": ((4, LENGTH), "bool"),
        "pid": ((4,), "int32"),
    }


def test_image_caption_and_person_of_a_row_belong_together(split, config):
    for batch in take(batches_lib.train_batches(split, config, 0), 12):
        captions = batch["token_ids"][:, 0]
        images = split.caption_image[captions]
        assert (batch["image"] == images[:, None, None, None]).all()
        assert (batch["pid"] == split.image_pids[images]).all()


def test_an_epoch_shows_no_pair_twice_and_drops_only_the_remainder(split, config):
    steps = batches_lib.steps_per_epoch(split, config)
    assert (split.num_captions, steps) == (21, 5)
    batches = stack(take(batches_lib.train_batches(split, config, 0), 3 * steps))
    epochs = batches["token_ids"][..., 0].reshape(3, steps * 4)
    for epoch in epochs:
        assert len(set(epoch)) == 20
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert len({frozenset(epoch) for epoch in epochs}) > 1, "always the same pair left out"


@pytest.mark.parametrize("start", [1, 4, 5, 7, 13])
def test_a_batch_depends_on_seed_and_step_only(split, config, start):
    straight = take(batches_lib.train_batches(split, config, 0), start + 3)[start:]
    resumed = take(batches_lib.train_batches(split, config, start), 3)
    for key, value in stack(straight).items():
        np.testing.assert_array_equal(value, stack(resumed)[key])
    config.seed += 1
    other = take(batches_lib.train_batches(split, config, start), 3)
    assert (stack(other)["token_ids"] != stack(straight)["token_ids"]).any()


@pytest.mark.parametrize("hosts", [2, 4])
def test_global_batches_are_the_same_on_any_number_of_hosts(split, config, hosts):
    whole = stack(take(batches_lib.train_batches(split, config, 2, 0, 1), 9))
    shares = [
        stack(take(batches_lib.train_batches(split, config, 2, host, hosts), 9))
        for host in range(hosts)
    ]
    for key, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([s[key] for s in shares], axis=1), value)


@pytest.mark.parametrize("hosts", [1, 2])
def test_gallery_batches_hold_every_image_once_in_order(split, config, hosts):
    shares = [list(batches_lib.gallery_batches(split, config, 4, h, hosts)) for h in range(hosts)]
    batches = [
        {key: np.concatenate([share[i][key] for share in shares]) for key in shares[0][0]}
        for i in range(3)
    ]
    assert all(batch["image"].shape == (4, 8, 4, 3) for batch in batches)
    rows = stack(batches)
    valid = rows["valid"].reshape(-1)
    assert valid.tolist() == [True] * 11 + [False]
    assert rows["image"][..., 0, 0, 0].reshape(-1)[valid].tolist() == list(range(11))
    np.testing.assert_array_equal(rows["pid"].reshape(-1)[valid], split.image_pids)


def test_query_batches_hold_every_caption_once_in_order(split, config):
    rows = stack(list(batches_lib.query_batches(split, config, 8)))
    valid = rows["valid"].reshape(-1)
    assert rows["token_ids"].shape == (3, 8, LENGTH) and valid.sum() == 21 and valid[:21].all()
    np.testing.assert_array_equal(rows["token_ids"].reshape(-1, LENGTH)[valid], split.token_ids)
    np.testing.assert_array_equal(rows["pid"].reshape(-1)[valid], split.caption_pids)


def of_images(split, images):
    """The split with other images: as many as there are, repeated from the beginning."""
    repeated = np.empty(split.num_images, object)
    repeated[:] = [images[i % len(images)] for i in range(split.num_images)]
    return dataclasses.replace(split, images=repeated)


def pixels_of_training(split, config):
    return np.concatenate([b["image"] for b in batches_lib.gallery_batches(split, config, 11)])


def test_training_sees_what_search_sees_of_every_kind_of_picture(split, config, tmp_path):
    config.data.image_size = (48, 24)
    kinds = sorted(pictures.EVERY_KIND)
    for begin in range(0, len(kinds), 11):
        some = kinds[begin : begin + 11]
        of_kinds = of_images(split, [pictures.EVERY_KIND[kind] for kind in some])
        for kind, got in zip(some, pixels_of_training(of_kinds, config), strict=False):
            (tmp_path / "file").write_bytes(pictures.EVERY_KIND[kind])
            np.testing.assert_array_equal(got, pixels_of(tmp_path / "file", (48, 24)), kind)


@given(
    shape=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    quality=st.integers(20, 100),
    subsampling=st.integers(0, 2),
    progressive=st.booleans(),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_training_sees_the_pixels_of_the_recipe_of_any_jpeg(
    split, config, shape, size, quality, subsampling, progressive
):
    """Decoded and resized by Pillow, as the released code does."""
    picture = Image.fromarray(pictures.photo(*shape))
    options = {"quality": quality, "subsampling": subsampling, "progressive": progressive}
    data = pictures.encoded(picture, "JPEG", **options)
    config.data.image_size = size
    got = pixels_of_training(of_images(split, [data]), config)
    with Image.open(io.BytesIO(data)) as image:
        expected = image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(got, np.asarray(expected)[None].repeat(11, 0))


def test_a_corrupt_image_is_named_when_it_is_read(split, config):
    split.images[6] = split.images[6][:30]
    with pytest.raises(UsageError, match=r"test/set/1\.0\.0 train: image 6\.png cannot be decoded"):
        list(batches_lib.gallery_batches(split, config, 4))


@pytest.mark.parametrize("size", [0, 22])
def test_a_batch_larger_than_the_split_is_refused(split, config, size):
    config.train.batch_size = size
    with pytest.raises(UsageError, match=rf"train\.batch_size is {size}, expected 1 to 21"):
        next(batches_lib.train_batches(split, config, 0))


def test_a_batch_that_hosts_cannot_share_is_refused(split, config):
    with pytest.raises(UsageError, match=r"train\.batch_size is 4, expected a multiple of the 3"):
        next(batches_lib.train_batches(split, config, 0, 0, 3))


@pytest.fixture(scope="module")
def cuhk(tmp_path_factory):
    """Data folder and vocabulary of the prepared dummy CUHK-PEDES (1 to 3 captions an image)."""
    folder = tmp_path_factory.mktemp("prepared")
    source = DATASETS / "cuhk" / "dummy_data"
    builder = registry.PUBLISHED["cuhk"](
        data_dir=str(folder), config=registry.caption_config(str(source / "vocab.txt"))
    )
    registry.write_records(builder, source)
    return folder, source / "vocab.txt"


@pytest.fixture
def cuhk_config(config, cuhk):
    config.data.name = "cuhk"
    config.data.data_dir, config.data.vocab = map(str, cuhk)
    return config


def test_load_split_reads_what_was_prepared(cuhk_config):
    split = split_lib.load_split(cuhk_config, "train")
    assert (split.num_images, split.num_captions) == (3, 7)
    order = np.argsort(split.image_paths)
    paths = [split.image_paths[i] for i in order]
    assert paths == ["CUHK01/0001001.png", "CUHK03/1_1.jpg", "Market/0002_c1.jpg"]
    assert split.image_pids[order].tolist() == [1, 1, 2]
    assert np.bincount(split.caption_image)[order].tolist() == [2, 3, 2]
    tokenizer = Tokenizer(split.vocab_path)
    for text, ids in zip(split.texts, split.token_ids, strict=True):
        np.testing.assert_array_equal(tokenizer.encode(text, 73)[0], ids)
    assert split.attribute_mask.any(1).all() and split.phrase_ids.max(1).min() >= 1
    (batch,) = take(batches_lib.train_batches(split, cuhk_config, 0), 1)
    assert batch["image"].shape == (4, 8, 4, 3)


def test_first2_keeps_two_captions_of_an_image(cuhk_config):
    cuhk_config.data.captions = "first2"
    split = split_lib.load_split(cuhk_config, "train")
    assert np.bincount(split.caption_image).tolist() == [2, 2, 2]
    everything = cuhk_config.copy_and_resolve_references()
    everything.data.captions = "all"
    assert set(split.texts) < set(split_lib.load_split(everything, "train").texts)


def test_a_missing_set_says_what_to_get_and_to_run(config):
    name = config.data.name = "rstp"
    layout = registry.PUBLISHED[name].LAYOUT
    with pytest.raises(MissingFileError) as caught:
        split_lib.load_split(config, "train")
    for part in (
        layout.annotations[0],
        "imgs/",
        f"python -m cada_jax prepare --dataset={name} --source=",
        f"--data_dir={config.data.data_dir}",
        "python -m cada_jax.main --config=configs/synthetic.py --workdir=",
    ):
        assert part in str(caught.value)


def test_data_prepared_under_other_settings_is_offered(cuhk_config):
    (name,) = (p.name for p in (Path(cuhk_config.data.data_dir) / "cuhk").iterdir())
    cuhk_config.data.vocab = None
    with pytest.raises(MissingFileError, match=rf"--config\.data\.variant={name}"):
        split_lib.load_split(cuhk_config, "test")
    cuhk_config.data.variant = name
    assert split_lib.load_split(cuhk_config, "test").num_images == 1


@pytest.fixture
def people(config):
    config.data.name, config.data.variant, config.data.max_length = "synthetic", "tiny", 49
    return config


def test_generated_people_prepare_themselves_once(people, capsys):
    first = split_lib.load_split(people, "train")
    assert "Preparing synthetic/tiny" in capsys.readouterr().out
    again = split_lib.load_split(people, "train")
    assert capsys.readouterr().out == ""
    assert again.image_paths == first.image_paths and again.texts == first.texts
    assert (again.images == first.images).all()
    held_out = split_lib.load_split(people, "test")
    assert not set(held_out.image_pids) & set(first.image_pids)


def test_settings_that_contradict_the_records_are_named(cuhk_config, tmp_path):
    cuhk_config.data.variant = next((Path(cuhk_config.data.data_dir) / "cuhk").iterdir()).name
    cuhk_config.data.max_length = 40
    with pytest.raises(UsageError, match=r"max_length is 40.*prepared with 73"):
        split_lib.load_split(cuhk_config, "test")
    cuhk_config.data.max_length = 73
    other = tmp_path / "other.txt"
    other.write_text(Path(cuhk_config.data.vocab).read_text() + "extra\n")
    cuhk_config.data.vocab = str(other)
    with pytest.raises(UsageError, match=r"other\.txt is not the vocabulary"):
        split_lib.load_split(cuhk_config, "test")


def test_vocabulary_and_model_must_agree(config, cuhk):
    tokenizer = Tokenizer(cuhk[1])
    with pytest.raises(UsageError, match=rf"vocab_size is 30524, .* it is {tokenizer.vocab_size}:"):
        vocabulary.check_model_tokens(config, tokenizer.path)
    config.model.text.vocab_size = tokenizer.vocab_size
    with pytest.raises(UsageError, match=r"model\.tokens\.cls is 101, .* it is 2: set"):
        vocabulary.check_model_tokens(config, tokenizer.path)
    config.model.tokens.update(tokenizer.special)
    vocabulary.check_model_tokens(config, tokenizer.path)
