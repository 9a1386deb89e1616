"""Folders in the three published formats, from the exporter to a cross-domain table."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from cada_jax.common.errors import UsageError
from cada_jax.data.datasets.synthetic.people import VARIANTS
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from cada_jax.data.mixture import load_training
from cada_jax.data.preparation import command
from cada_jax.evaluation.run import evaluate
from cada_jax.text.tokenizer import Tokenizer
from cada_jax.training.run import train
from tools import export_synthetic

FEW = replace(VARIANTS["tiny"], train_persons=6, val_persons=3, test_persons=4, images_per_person=3)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """The three sets prepared from generated folders, no two of them laid out alike."""
    root, out = tmp_path_factory.mktemp("folders"), tmp_path_factory.mktemp("data")
    folders = {name: root / form.folder for name, form in export_synthetic.FORMATS.items()}
    for name, folder in folders.items():
        export_synthetic.export(FEW, folder, export_synthetic.FORMATS[name])
    for path in [*(folders["rstp"] / "imgs").iterdir()]:  # without the imgs/ level
        path.rename(folders["rstp"] / path.name)
    (folders["icfg"] / "ICFG-PEDES.json").rename(folders["icfg"] / "ICFG_PEDES.json")
    folders["cuhk"] = root  # the parent of the folder
    for name, folder in folders.items():
        flags = [f"--dataset={name}", f"--source={folder}", f"--data_dir={out}", "--max_length=49"]
        assert command.main([*flags, f"--vocab={VOCAB_PATH}"]) == 0
    return out


@pytest.fixture
def config(load_config, data_dir):
    """Two epochs on the mixture of the three sets, the smallest network."""
    c = load_config("rstp")
    c.data.update(image_size=(48, 24), max_length=49, data_dir=str(data_dir), vocab=str(VOCAB_PATH))
    c.model.image.patch = (24, 12)
    for part in (c.model.image, c.model.text):
        part.update(width=16, depth=1, heads=2, mlp_dim=32)
    words = Tokenizer(VOCAB_PATH)
    c.model.text.vocab_size = words.vocab_size
    c.model.tokens.update(**{k: words.special[k] for k in c.model.tokens})
    c.train.update(datasets="cuhk,icfg,rstp", batch_size=16, epochs=2, log_every=2)
    c.eval.update(batch_size=12, rerank_top_k=2, rerank_batch=24, track_test=True)
    c.eval.image_to_text_top_k = 2
    return c


ONE_DEVICE = dict(devices=jax.devices()[:1])


def read(path):
    return json.loads(path.read_text())


def test_from_published_folders_to_a_cross_domain_table(config, tmp_path):
    run = tmp_path / "run"
    results = train(config.lock(), run, **ONE_DEVICE)
    assert results == read(run / "results.json")
    assert results["dataset"] == "rstp" and results["selected_on"] == "val"
    assert results["caption_protocol"] == "all"
    assert (results["num_queries"], results["num_gallery"]) == (24, 12)
    on_test = results["test_selected"]
    assert on_test == read(run / "test_selected.json")
    assert on_test["selected_on"] == "test" and "too good" in on_test["note"]
    assert on_test["value"] >= results["reranked"]["R1"]  # the best of all, this one among them
    before = (run / "results.json").read_bytes()

    again = config.copy_and_resolve_references().unlock()
    again.eval.datasets = "cuhk,icfg,rstp"
    table = evaluate(again.lock(), run, **ONE_DEVICE)
    assert table == read(run / "cross_domain.json")
    assert table["trained_on"] == "cuhk,icfg,rstp"
    assert (run / "results.json").read_bytes() == before, "the run's own result stays"
    found = table["tested_on"]
    assert {name: r["num_gallery"] for name, r in found.items()} == dict.fromkeys(found, 12)
    assert found["icfg"]["num_queries"] == 12 and found["cuhk"]["num_queries"] not in (12, 24)
    for stage in ("global", "reranked", "image_to_text"):
        same = pytest.approx(results[stage]) if stage != "image_to_text" else results[stage]
        assert found["rstp"][stage] == same
    for name, result in found.items():
        folder = run / "eval" / f"{name}-test"
        assert read(folder / "results.json") == result
        rows = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
        assert len(rows) == result["num_queries"]
    printed = (run / "cross_domain.md").read_text()
    assert printed.count("text to image, top 2") == printed.count("image to text, top 2") == 3


def test_the_mixture_holds_all_three_sets_and_their_protocol(config):
    mixed = load_training(config)
    assert len(np.unique(mixed.image_pids)) == 3 * FEW.train_persons
    assert sorted(set(np.bincount(mixed.caption_image))) == [1, 2, 3]
    config.data.captions = "first2"
    assert sorted(set(np.bincount(load_training(config).caption_image))) == [1, 2]


def test_a_set_without_the_split_is_told_before_anything_is_scored(config, tmp_path):
    config.eval.update(datasets="rstp,icfg", split="val")
    with pytest.raises(UsageError, match="icfg.* has no split 'val'"):
        evaluate(config.lock(), tmp_path, **ONE_DEVICE)
