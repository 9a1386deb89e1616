"""What the errors of re-ranking share."""

import dataclasses
import types

import numpy as np
import pytest

from tools.probing import (
    reranking,
    truth,
)


def scripted(first_global, first_reranked, k):
    return types.SimpleNamespace(
        first_global=np.array(first_global),
        first_reranked=np.array(first_reranked),
        retrieved=types.SimpleNamespace(indices=np.zeros((len(first_global), k), int)),
    )


def test_queries_are_counted_by_what_re_ranking_did_to_them(one):
    photographs = dataclasses.replace(one, truth=None)
    ranking = scripted([0, 0, 2, 3, 9, -1], [0, 1, 0, 1, 9, -1], 5)
    found = reranking.measure_reranking(photographs, ranking)
    assert found["queries"] == 5  # one has no right image
    assert found["counts"] == dict(stay_right=1, put_wrong=1, put_right=1, stay_wrong=2)
    assert found["R1"] == {"similarity": 40, "reranked": 40}
    assert found["unreachable"] == 1
    assert found["rank_by_similarity"] == {"1": 1, "4-5": 1}
    assert "reranked" not in found


def test_errors_are_the_readers_where_the_caption_contradicts_the_image(one):
    every = np.arange(len(one.chosen))
    found = reranking.describe_errors(one, every, one.wrong)
    fits = truth.share_that_fits(one.truth, one.chosen, one.wrong)
    assert found["errors"] == 48 == found["reader"] + found["open"]
    assert found["open"] == round(48 * fits)
    differ = found["persons_differ"]
    assert sum(counts["errors"] for counts in differ.values()) == 48 and "0" not in differ
    assert sum(counts["reader"] for counts in differ.values()) == found["reader"]
    for name, counts in found["attributes"].items():
        assert counts["contradicted"] + counts["hidden"] <= counts["stated"], name


def test_the_own_image_contradicts_nothing(one):
    found = reranking.describe_errors(one, np.arange(len(one.chosen)), one.right)
    assert found["reader"] == 0 and found["persons_differ"] == {"0": {"errors": 48, "reader": 0}}
    assert found["attributes"] == {}


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({"top_color"}, 1),
        ({"top_color", "bag_color"}, 1),
        ({"top_color", "top"}, 0),
        ({"hair_style"}, 0),
    ],
)
def test_persons_are_recoloured_where_nothing_but_colours_of_things_differ(one, changed, count):
    own, other = int(one.pids[0]), int(one.split.image_pids[one.wrong[0]])
    twin = one.truth.persons[own] | dict.fromkeys(changed, "another")
    assert len(truth.differing(one.truth.persons[own], twin)) == len(changed), "known attributes"
    persons = {**one.truth.persons, other: twin}
    known = dataclasses.replace(one, truth=one.truth._replace(persons=persons))
    found = reranking.describe_errors(known, np.arange(1), one.wrong[:1])
    assert found["recoloured"] == count
