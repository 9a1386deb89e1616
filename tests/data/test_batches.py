import dataclasses
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.data import batches as batches_lib
from cada_jax.data import registry
from cada_jax.data import split as split_lib
from cada_jax.text import vocabulary
from cada_jax.text.tokenizer import Tokenizer
from tests.conftest import DATASETS

LENGTH = 6


def encoded(array: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


@pytest.fixture
def split():
    """11 images of 4 persons, 1 to 3 captions each; image i is filled with the value i."""
    counts = [2, 1, 3, 2, 2, 1, 2, 3, 2, 2, 1]
    images = np.empty(11, object)
    images[:] = [encoded(np.full((8, 4, 3), i, np.uint8)) for i in range(11)]
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


def test_epoch_order_is_a_permutation_of_its_own():
    orders = [batches_lib.epoch_order(50, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order) == list(range(50))
    assert len({tuple(order) for order in orders}) == 4


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


def photo(height, width):
    rows, columns = np.mgrid[:height, :width] / 10
    waves = [np.sin(rows + k) * np.cos(columns * (k + 1)) for k in range(3)]
    return (np.stack(waves, -1) * 100 + 128).astype(np.uint8)


@pytest.mark.parametrize("size", [(24, 12), (100, 90), (64, 32)])
def test_resizing_is_the_antialiased_bilinear_one_of_the_recipe(size):
    picture = photo(64, 32)
    got = batches_lib.decode_image(tf.constant(encoded(picture)), *size).numpy()
    expected = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)
    assert got.dtype == np.uint8 and got.shape == (*size, 3)
    difference = got.astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1  # Pillow rounds after each of the two passes
    assert abs(difference.mean()) < 0.1  # rounding, not cutting off


def test_an_image_of_the_right_size_is_left_alone():
    noise = np.random.default_rng(0).integers(0, 256, (16, 8, 3), np.uint8)
    got = batches_lib.decode_image(tf.constant(encoded(noise)), 16, 8)
    np.testing.assert_array_equal(got, noise)


def test_grey_and_transparent_images_have_three_channels_too():
    grey = batches_lib.decode_image(tf.constant(encoded(photo(16, 8)[..., 0])), 16, 8)
    np.testing.assert_array_equal(grey, photo(16, 8)[..., :1].repeat(3, -1))
    clear = np.concatenate([photo(16, 8), np.full((16, 8, 1), 9, np.uint8)], -1)
    np.testing.assert_array_equal(
        batches_lib.decode_image(tf.constant(encoded(clear)), 16, 8), photo(16, 8)
    )
    jpeg = batches_lib.decode_image(tf.constant(encoded(photo(16, 8), "JPEG")), 16, 8).numpy()
    assert np.abs(jpeg.astype(int) - photo(16, 8)).mean() < 10


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
    cuhk_config.data.captions = "first3"
    with pytest.raises(UsageError, match=r"'first3'.*first2"):
        split_lib.load_split(cuhk_config, "train")


@pytest.mark.parametrize("name", ["rstp", "cuhk", "icfg"])
def test_a_missing_set_says_what_to_get_and_to_run(config, name):
    config.data.name = name
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


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("variant", "dmeo", r"'dmeo' of synthetic.*tiny"),
        ("tagger", "nltk", r"data\.tagger is 'nltk'.*always"),
        ("tag_unit", "wordpiece", r"data\.tag_unit 'wordpiece'.*always"),
    ],
)
def test_generated_people_have_settings_of_their_own(people, field, value, match):
    people.data[field] = value
    with pytest.raises(UsageError, match=match):
        split_lib.load_split(people, "train")


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


def test_a_split_that_is_not_there_is_named(cuhk_config):
    with pytest.raises(UsageError, match=r"no split 'dev'.*test.*train.*val"):
        split_lib.load_split(cuhk_config, "dev")


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("name", "prcc", r"'prcc'.*synthetic.*rstp"),
        ("tagger", "spacy", r"data\.tagger 'spacy'"),
        ("tag_unit", "char", r"data\.tag_unit 'char'"),
        ("vocab", "/no/such/vocab.txt", r"/no/such/vocab\.txt"),
    ],
)
def test_unknown_choices_are_named(config, monkeypatch, field, value, match):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: open("/no/such"))
    config.data[field] = value
    with pytest.raises(UsageError, match=match):
        split_lib.load_split(config, "train")


def test_a_half_written_folder_never_counts_as_prepared(cuhk_config):
    builder = registry.make_builder(cuhk_config)
    assert registry.is_prepared(builder)
    (Path(builder.data_dir) / "vocab.txt").rename(Path(builder.data_dir) / "gone")
    try:
        assert not registry.is_prepared(builder)
        with pytest.raises(UsageError, match="not a complete preparation: vocab.txt is miss"):
            registry.write_records(builder, Path("unused"))
    finally:
        (Path(builder.data_dir) / "gone").rename(Path(builder.data_dir) / "vocab.txt")


def test_a_folder_that_cannot_be_written_is_named(config, tmp_path):
    (tmp_path / "file").write_text("in the way")
    config.data.data_dir = str(tmp_path / "file")
    source = DATASETS / "rstp" / "dummy_data"
    config.data.vocab = str(source / "vocab.txt")
    with pytest.raises(UsageError, match=r"cannot write prepared data under .*file"):
        registry.write_records(registry.make_builder(config), source)


def test_vocabulary_and_model_must_agree(config, cuhk):
    tokenizer = Tokenizer(cuhk[1])
    with pytest.raises(UsageError, match=rf"vocab_size is 30524.*has {tokenizer.vocab_size} "):
        vocabulary.check_model_tokens(config, tokenizer.path)
    config.model.text.vocab_size = tokenizer.vocab_size
    with pytest.raises(UsageError, match=r"model\.tokens\.cls is 101.* at 2: set"):
        vocabulary.check_model_tokens(config, tokenizer.path)
    config.model.tokens.update(tokenizer.special)
    vocabulary.check_model_tokens(config, tokenizer.path)


def test_the_data_folder_is_config_then_environment_then_home(config, monkeypatch):
    monkeypatch.setenv("CADA_DATA_DIR", "/from/environment")
    assert registry.data_folder(config) == Path(config.data.data_dir)
    config.data.data_dir = None
    assert registry.data_folder(config) == Path("/from/environment")
    monkeypatch.delenv("CADA_DATA_DIR")
    assert registry.data_folder(config) == Path.home() / "cada_data"


def test_split_is_immutable_in_its_fields(split):
    with pytest.raises(dataclasses.FrozenInstanceError):
        split.texts = []
