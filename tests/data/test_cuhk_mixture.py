"""CUHK-PEDES as it is: pictures of five older sets in one folder, prepared, loaded, trained on."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cada_jax.common.images import read_rgb
from cada_jax.data.batches import gallery_batches, train_batches
from cada_jax.data.datasets.synthetic.people import VARIANTS, generate
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from cada_jax.data.preparation import command
from cada_jax.data.split import load_split
from cada_jax.text.tokenizer import Tokenizer

# Folder of the older set -> its files' ending, Pillow's name of the format, options.
SETS = {
    "CUHK01": ("png", "PNG", {}),
    "CUHK03": ("png", "PNG", {}),
    "Market": ("jpg", "JPEG", {"quality": 90}),
    "VIPeR": ("bmp", "BMP", {}),
    "test_query": ("jpg", "JPEG", {"quality": 95, "progressive": True}),
    "train_query": ("jpg", "MPO", {}),
}
CAPTIONS = (2, 2, 1, 2, 3, 4)  # of the images, in turn
PEOPLE = replace(VARIANTS["tiny"], train_persons=6, val_persons=2, test_persons=3)
LENGTH = 49


def write_folder(folder: Path) -> list[dict]:
    """Generated people, every person's images in another older set's folder and format."""
    entries = []
    settings = replace(PEOPLE, captions_per_image=max(CAPTIONS), images_per_person=6)
    for split in ("train", "val", "test"):
        for number, example in enumerate(generate(settings, split)):
            place = list(SETS)[example.image % len(SETS)]
            ending, kind, options = SETS[place]
            pid = settings.first_pid(split) + example.person + 1
            path = f"{place}/{pid:04d}{example.image:03d}.{ending}"
            file = folder / "imgs" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.open(io.BytesIO(example.jpeg)).convert("RGB")
            picture.save(file, kind, **options)
            texts = [c.text for c in example.captions[: CAPTIONS[number % len(CAPTIONS)]]]
            words = [text.lower().split() for text in texts]
            entry = {"split": split, "captions": texts, "file_path": path}
            entries.append(entry | {"processed_tokens": words, "id": pid})
    (folder / "reid_raw.json").write_text(json.dumps(entries))
    return entries


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The source folder, its entries, and the folder of prepared sets."""
    source = tmp_path_factory.mktemp("source") / "CUHK-PEDES"
    entries = write_folder(source)
    out = tmp_path_factory.mktemp("data")
    flags = ["--dataset=cuhk", f"--source={source}", f"--vocab={VOCAB_PATH}"]
    assert command.main([*flags, "--check"]) == 0
    flags += [f"--data_dir={out}", f"--max_length={LENGTH}"]
    assert command.main(flags) == 0
    return source, entries, out


@pytest.fixture
def config(load_config, prepared):
    c = load_config("cuhk")
    c.data.update(image_size=(48, 24), max_length=LENGTH, data_dir=str(prepared[2]))
    c.data.vocab = str(VOCAB_PATH)
    c.train.batch_size = 8
    return c


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_image_and_caption_is_there_in_order(prepared, config, split):
    source, entries, _ = prepared
    loaded = load_split(config, split)
    written = [entry for entry in entries if entry["split"] == split]
    assert loaded.image_paths == [entry["file_path"] for entry in written]
    assert loaded.image_pids.tolist() == [entry["id"] for entry in written]
    counts = [len(entry["captions"]) for entry in written]
    assert np.bincount(loaded.caption_image).tolist() == counts and {1, 4} <= set(counts)
    for entry, stored in zip(written, loaded.images, strict=True):
        file = source / "imgs" / entry["file_path"]
        np.testing.assert_array_equal(read_rgb(stored), read_rgb(file))
        kept = file.suffix != ".bmp"
        assert (stored == file.read_bytes()) == kept
        assert stored.startswith(b"\xff\xd8" if file.suffix == ".jpg" else b"\x89PNG")


def test_batches_show_the_pictures_as_pillow_reads_them(prepared, config):
    split = load_split(config, "test")
    height, width = read_rgb(split.images[0]).shape[:2]
    config.data.image_size = (height, width)
    shown = np.concatenate([b["image"] for b in gallery_batches(split, config, 6)])
    for pixels, stored, path in zip(shown, split.images, split.image_paths, strict=False):
        difference = np.abs(pixels.astype(int) - read_rgb(stored))
        assert difference.mean() < (2 if path.endswith("jpg") else 1e-9)
    batch = next(train_batches(load_split(config, "train"), config, 0))
    assert batch["image"].shape == (8, height, width, 3)


@pytest.mark.slow
def test_training_and_scoring_run_on_it(prepared, config, tmp_path):
    from cada_jax.training import run

    c = config
    c.model.image.patch = (24, 12)
    for part in (c.model.image, c.model.text):
        part.update(width=16, depth=1, heads=2, mlp_dim=32)
    words = Tokenizer(VOCAB_PATH)
    c.model.text.vocab_size = words.vocab_size
    c.model.tokens.update(**{k: words.special[k] for k in c.model.tokens})
    c.init_from = None
    c.train.update(epochs=1, log_every=2)
    c.eval.update(batch_size=8, rerank_top_k=2, rerank_batch=16)
    results = run.train(c, str(tmp_path / "run"))
    assert results["num_gallery"] == 18 and 0 <= results["reranked"]["R1"] <= 100
