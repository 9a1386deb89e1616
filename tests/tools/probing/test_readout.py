"""What a linear map reads from images."""

import dataclasses

import numpy as np
import pytest

from cada_jax.data.split import load_split
from tools.attribute_training import ATTRIBUTES, UNKNOWN, class_table, to_labels
from tools.probing import (
    readout,
    truth,
)


def test_a_readout_names_what_features_hold_and_guesses_the_rest():
    rng = np.random.default_rng(0)
    labels = np.stack([rng.integers(0, 3, 400), rng.integers(0, 5, 400)], 1)
    hidden = rng.random(400) < 0.5
    labels[hidden, 0] = UNKNOWN
    held = np.eye(4)[labels[:, 0]]  # the last column: hidden
    noise = rng.normal(size=(400, 8))
    features = np.concatenate([held, noise], 1).astype(np.float32)
    fitted, asked = readout.standardised(features[:200], features[200:])
    weights = readout.fit_readout(fitted, labels[:200], [3, 5])
    named = readout.predict(weights, asked, [3, 5])
    right = named == labels[200:]
    assert right[~hidden[200:], 0].all()
    assert right[:, 1].mean() < 0.4
    assert set(named[:, 0]) <= {0, 1, 2}, "hidden is no answer"


def test_tokens_that_are_the_truth_are_read_and_an_embedding_of_noise_is_not(one, monkeypatch):
    rng = np.random.default_rng(0)
    train = load_split(one.retriever.config, "train")
    table = class_table(truth.read_truth(one.retriever.config, train).shown)

    def encode(retriever, split):
        del retriever
        labels = to_labels(truth.read_truth(one.retriever.config, split).shown, table)
        columns = [labels[:, [i]] == np.arange(len(table[a])) for i, a in enumerate(ATTRIBUTES)]
        tokens = np.concatenate(columns, 1).astype(np.float32)[:, None]
        noise = rng.normal(size=(len(labels), 4)).astype(np.float32)
        return dataclasses.replace(one.gallery, embeddings=noise, tokens=tokens, pids=labels[:, 0])

    monkeypatch.setattr(readout, "encode_images", encode)
    known = dataclasses.replace(one, gallery=encode(None, one.split))
    found = readout.measure_readout(known)
    assert found["images"] == train.num_images
    assert found["mean"]["tokens"] > 0.9 > 0.7 > found["mean"]["embedding"]
    shown = [of_one["top_color"] for of_one in one.truth.shown if "top_color" in of_one]
    of_train = truth.read_truth(one.retriever.config, train).shown
    commonest = max(
        table["top_color"], key=lambda v: sum(x.get("top_color") == v for x in of_train)
    )
    assert found["attributes"]["top_color"]["commonest"] == pytest.approx(
        np.mean([value == commonest for value in shown])
    )


def test_nothing_is_read_without_the_truth_or_of_the_train_split(one):
    assert readout.measure_readout(dataclasses.replace(one, truth=None)) is None
    same = dataclasses.replace(one, split=dataclasses.replace(one.split, name="train"))
    assert readout.measure_readout(same) is None
