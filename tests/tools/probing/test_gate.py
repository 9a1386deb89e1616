"""The gate by class of word."""

import dataclasses

import jax
import numpy as np

from cada_jax.models.cada import from_config
from cada_jax.retrieval.ranking import rank
from tests.tools.probing.altered import with_params
from tools.probing import (
    gate,
    reranking,
    word_classes,
)


def test_gates_are_one_at_the_start_of_a_training(one, words):
    found = gate.measure_gate(one, words)
    for of_class in found["classes"].values():
        for spread in (*of_class["right"], *of_class["wrong"]):
            assert spread == {"mean": 1.0, "std": 0.0, "p5": 1.0, "p95": 1.0}


def test_a_gate_that_is_constant_is_reported_as_that_in_every_class(one, words):
    retriever = one.retriever
    params = gate.with_constant_gates(retriever.params, np.array([0.25, 1.5]))
    constant = dataclasses.replace(one, retriever=retriever.with_params(params))
    found = gate.measure_gate(constant, words)
    assert set(found["classes"]) == set(word_classes.CLASSES)
    for of_class in found["classes"].values():
        for which in ("right", "wrong"):
            spreads = of_class[which]
            np.testing.assert_allclose([s["mean"] for s in spreads], [0.25, 1.5], rtol=1e-5)
            assert max(s["std"] for s in spreads) < 1e-6
        assert max(of_class["moved"]) < 1e-6
    assert found["explained"] == [0.0, 0.0]


def test_a_gate_that_reads_its_token_and_its_image_differs_by_class_and_by_image(one, words):
    def random_gate(names, leaf):
        if "gate" not in names or names[-1] != "kernel":
            return leaf
        return jax.random.normal(jax.random.key(1), leaf.shape)

    found = gate.measure_gate(with_params(one, random_gate), words)
    assert min(found["explained"]) > 0.01
    assert max(max(of_class["moved"]) for of_class in found["classes"].values()) > 1e-4
    means = {round(of_class["right"][0]["mean"], 3) for of_class in found["classes"].values()}
    assert len(means) > 3


def test_a_word_of_two_pieces_counts_once_and_a_rare_one_not_at_all():
    index = np.array([[-1, 0, 1, 1, -1]] * 20 + [[-1, 0, 0, 0, -1]])
    word = np.array(
        [[None, "a", "coat", "coat", None]] * 20 + [[None, *["rare"] * 3, None]], object
    )
    gates = np.array([[9.0, 0.5, 1.0, 2.0, 9.0]] * 21, np.float32)
    found = gate._word_means(gates, word_classes.Words(np.zeros_like(index), word, index))
    expected = [
        {"word": "coat", "count": 20, "mean": 1.5},
        {"word": "a", "count": 20, "mean": 0.5},
    ]
    assert found == expected


def test_gates_of_one_change_no_ranking_of_a_model_whose_gates_are_one(one, words):
    queries = reranking.encode_captions(one)
    trained = rank(one.retriever, queries, one.gallery, 4)
    found = gate.measure_worth(one, queries, trained, gate.measure_gate(one, words))
    for worth in found.values():
        assert (worth["put_right"], worth["put_wrong"]) == (0, 0)
        assert worth["R1"] == trained.metrics["reranked"]["R1"]


def test_a_model_without_gates_has_nothing_to_measure(one, words):
    config = one.retriever.config.copy_and_resolve_references()
    config.atp.gate = "off"
    retriever = dataclasses.replace(one.retriever, model=from_config(config))
    without = dataclasses.replace(one, retriever=retriever)
    assert gate.measure_gate(without, words) is None
